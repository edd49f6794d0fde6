package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand"
	"net"
	"strings"
	"time"
)

// Each side says 8 bytes first: 0 "SP" 0, its protocol in 16 bits, 16 bits of zero. Then come messages: their length
// in 64 bits, and the bytes. A request's begin with 32 bits that its reply has too, the highest of them set.
var (
	helloREQ = []byte{0, 'S', 'P', 0, 0, 0x30, 0, 0}
	helloREP = []byte{0, 'S', 'P', 0, 0, 0x31, 0, 0}
)

const (
	headerSize     = 12
	numberSize     = 4
	messageSizeMax = 64<<20 + numberSize
)

// Req is the asking side of REQ/REP, one of the scalability protocols that nng speaks, over TCP: as much of it as a
// client needs that asks one thing at a time. Not for several goroutines at a time.
type Req struct {
	address string
	conn    net.Conn // nil: the next request connects
	number  uint32
}

// NewReq takes an address as tcp://HOST:PORT.
func NewReq(address string) *Req {
	return &Req{address: strings.TrimPrefix(address, "tcp://"), number: rand.Uint32()}
}

// Request returns the reply to a message. After an error the connection is made anew by the next request; nothing is
// sent again by itself.
func (r *Req) Request(message []byte, patience time.Duration) ([]byte, error) {
	reply, err := r.exchange(message, time.Now().Add(patience))
	if err != nil {
		r.Close()
	}
	return reply, err
}

// Close ends the connection.
func (r *Req) Close() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

func (r *Req) exchange(message []byte, deadline time.Time) ([]byte, error) {
	if r.conn == nil {
		if err := r.connect(deadline); err != nil {
			return nil, err
		}
	}
	if err := r.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	r.number = (r.number + 1) | 1<<31
	frame := make([]byte, headerSize, headerSize+len(message))
	binary.BigEndian.PutUint64(frame, uint64(numberSize+len(message)))
	binary.BigEndian.PutUint32(frame[8:], r.number)
	if _, err := r.conn.Write(append(frame, message...)); err != nil {
		return nil, err
	}
	header := frame[:headerSize]
	if _, err := io.ReadFull(r.conn, header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint64(header)
	if size < numberSize || size > messageSizeMax || binary.BigEndian.Uint32(header[8:]) != r.number {
		return nil, errors.New("not the reply to this request")
	}
	reply := make([]byte, size-numberSize)
	_, err := io.ReadFull(r.conn, reply)
	return reply, err
}

func (r *Req) connect(deadline time.Time) error {
	conn, err := net.DialTimeout("tcp", r.address, time.Until(deadline))
	if err != nil {
		return err
	}
	r.conn = conn
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write(helloREQ); err != nil {
		return err
	}
	hello := make([]byte, len(helloREP))
	if _, err := io.ReadFull(conn, hello); err != nil {
		return err
	}
	if !bytes.Equal(hello, helloREP) {
		return errors.New("the other side does not speak REP")
	}
	return nil
}
