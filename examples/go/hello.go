// Stores and reads through a gateway of Skerry.
//
// usage: go run . [ADDRESS]    SKERRY_TOKEN is sent if it is set.
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// twice what the gateway takes at most (option timeout_ms)
const patience = 10 * time.Second

var pauses = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond,
	800 * time.Millisecond, 1600 * time.Millisecond}

type request struct {
	_msgpack struct{} `msgpack:",as_array"`
	Type     uint8
	MsgID    uint32
	Method   string
	Params   []any
	Options  map[string]string
}

type reply struct {
	_msgpack struct{} `msgpack:",as_array"`
	Type     uint8
	MsgID    uint32
	Err      *ReplyError
	Result   any // a value is []byte, a status string, an integer int64 or uint64, what is missing nil
}

// ReplyError is what the gateway answered instead of a result. docs/protocol.md says of each code whether a write was
// done.
type ReplyError struct {
	_msgpack struct{} `msgpack:",as_array"`
	Code     string
	Text     string
}

func (e *ReplyError) Error() string { return e.Code + ": " + e.Text }

// UNAVAILABLE and OVERLOADED say that it was surely not done. After TIMEOUT nobody knows.
func (e *ReplyError) asksToSendAgain() bool {
	return e.Code == "TIMEOUT" || e.Code == "UNAVAILABLE" || e.Code == "OVERLOADED"
}

// Skerry is a connection to a gateway. Not for several goroutines at a time.
type Skerry struct {
	req     *Req
	token   string
	session string
	number  int
}

// NewSkerry connects with the first call.
func NewSkerry(address, token string) (*Skerry, error) {
	session := make([]byte, 16)
	if _, err := rand.Read(session); err != nil {
		return nil, err
	}
	return &Skerry{req: NewReq(address), token: token, session: fmt.Sprintf("%x", session)}, nil
}

// NewID names one write, unlike all others.
func (s *Skerry) NewID() string {
	s.number++
	return fmt.Sprintf("%s-%d", s.session, s.number)
}

// Call returns the result of a command. Reads take an id too, and do not mind it. What may have been done, as after
// TIMEOUT or when no reply came, is sent again under the same id: under one id a write happens once, however often it
// comes.
func (s *Skerry) Call(id, method string, params ...any) (any, error) {
	if params == nil {
		params = []any{} // an empty array and not nil
	}
	options := map[string]string{"id": id}
	if s.token != "" {
		options["token"] = s.token
	}
	// The msgid is always 1: REQ knows whose reply it gets.
	message, err := msgpack.Marshal(&request{MsgID: 1, Method: method, Params: params, Options: options})
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		reply, err := s.exchange(message)
		if err != nil || reply.Err == nil {
			return reply.Result, err
		}
		if !reply.Err.asksToSendAgain() || try == len(pauses) {
			return nil, reply.Err
		}
		time.Sleep(pauses[try])
	}
}

func (s *Skerry) exchange(message []byte) (reply, error) {
	var answer reply
	message, err := s.req.Request(message, patience)
	if err != nil { // as after TIMEOUT nobody knows whether it was done
		return reply{Err: &ReplyError{Code: "TIMEOUT", Text: "no reply: " + err.Error()}}, nil
	}
	decoder := msgpack.NewDecoder(bytes.NewReader(message))
	decoder.UseLooseInterfaceDecoding(true) // every integer as int64 or uint64
	err = decoder.Decode(&answer)
	return answer, err
}

func text(result any) string {
	switch value := result.(type) {
	case nil:
		return "nil"
	case []byte:
		return string(value)
	default:
		return fmt.Sprint(value)
	}
}

// show prints the result of a command, or the code of the error.
func (s *Skerry) show(title, id, method string, params ...any) {
	result, err := s.Call(id, method, params...)
	var refusal *ReplyError
	switch {
	case err == nil:
		fmt.Printf("%s: %s\n", title, text(result))
	case errors.As(err, &refusal):
		fmt.Printf("%s: %s\n", title, refusal.Code)
	default:
		log.Fatal(err)
	}
}

// showBatch sends many commands in one message. It is not atomic; each has its own error and result. Whoever finds
// TIMEOUT among the errors sends the whole batch again under the same id.
func (s *Skerry) showBatch(commands ...any) {
	result, err := s.Call(s.NewID(), "batch", commands...)
	if err != nil {
		log.Fatal(err)
	}
	var texts []string
	for _, pair := range result.([]any) {
		failure, result := pair.([]any)[0], pair.([]any)[1]
		if failure != nil {
			result = failure.([]any)[0]
		}
		texts = append(texts, text(result))
	}
	fmt.Println("batch:", strings.Join(texts, ", "))
}

func main() {
	address := "tcp://127.0.0.1:7400"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	skerry, err := NewSkerry(address, os.Getenv("SKERRY_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	defer skerry.req.Close()

	skerry.show("SET", skerry.NewID(), "SET", "hello:greeting", "hello")
	skerry.show("GET", skerry.NewID(), "GET", "hello:greeting")
	skerry.show("GET of a missing key", skerry.NewID(), "GET", "hello:missing")

	type list = []any
	skerry.showBatch(list{"SET", list{"hello:visits", "41"}}, list{"STRLEN", list{"hello:greeting"}},
		list{"INCR", list{"hello:greeting"}})

	id := skerry.NewID()
	skerry.show("INCR", id, "INCR", "hello:visits")
	skerry.show("INCR with the same id", id, "INCR", "hello:visits") // answered again, not done again

	skerry.show("INCR of a text", skerry.NewID(), "INCR", "hello:greeting")
}
