//! Stores and reads through a gateway of Skerry.
//!
//! usage: cargo run -- [ADDRESS]    SKERRY_TOKEN is sent if it is set.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::thread::sleep;
use std::time::Duration;

use nng::options::protocol::reqrep::ResendTime;
use nng::options::{Options, RecvMaxSize, RecvTimeout, SendTimeout};
use nng::{Protocol, Socket};
use rmpv::Value;

/// After these the same request is sent again. UNAVAILABLE and OVERLOADED: it was surely not done. TIMEOUT: perhaps
/// it was, so it must have the same id again, under which a write happens once, however often it comes.
const SEND_AGAIN: [&str; 3] = ["TIMEOUT", "UNAVAILABLE", "OVERLOADED"];
const PAUSES_MS: [u64; 5] = [100, 200, 400, 800, 1600];
/// Twice what the gateway takes at most (option timeout_ms).
const PATIENCE: Duration = Duration::from_secs(10);

/// What the gateway answered instead of a result. docs/protocol.md says of each code whether a write was done.
#[derive(Debug)]
struct ReplyError {
    code: String,
    text: String,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl Error for ReplyError {}

struct Skerry {
    socket: Socket,
    token: Option<String>,
    session: String,
    number: Cell<u64>,
}

impl Skerry {
    fn connect(address: &str) -> nng::Result<Self> {
        let socket = Socket::new(Protocol::Req0)?;
        // REQ can send again by itself, but here `call` decides what is sent again.
        socket.set_opt::<ResendTime>(None)?;
        socket.set_opt::<SendTimeout>(Some(PATIENCE))?;
        socket.set_opt::<RecvTimeout>(Some(PATIENCE))?;
        socket.set_opt::<RecvMaxSize>(0)?; // else 1 MiB
        socket.dial_async(address)?;
        let random = || RandomState::new().build_hasher().finish(); // the standard library has no other
        Ok(Self {
            socket,
            token: std::env::var("SKERRY_TOKEN").ok().filter(|token| !token.is_empty()),
            session: format!("{:016x}{:016x}", random(), random()),
            number: Cell::new(0),
        })
    }

    /// A name for one write, unlike all others.
    fn new_id(&self) -> String {
        self.number.set(self.number.get() + 1);
        format!("{}-{}", self.session, self.number.get())
    }

    /// The result of a command: a value is Binary, a status String, an integer Integer, what is missing Nil. Reads
    /// take an id too, and do not mind it.
    fn call(&self, id: &str, method: &str, params: Vec<Value>) -> Result<Value, ReplyError> {
        let mut options: Vec<(Value, Value)> = vec![("id".into(), id.into())];
        if let Some(token) = &self.token {
            options.push(("token".into(), token.as_str().into()));
        }
        // The msgid is always 1: REQ knows whose reply it gets.
        let request = Value::Array(vec![0.into(), 1.into(), method.into(), params.into(), options.into()]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &request).expect("a Vec takes everything");
        let mut pauses = PAUSES_MS.iter();
        loop {
            let error = match self.exchange(&bytes) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            match pauses.next() {
                Some(&pause) if SEND_AGAIN.contains(&error.code.as_str()) => sleep(Duration::from_millis(pause)),
                _ => return Err(error),
            }
        }
    }

    fn exchange(&self, request: &[u8]) -> Result<Value, ReplyError> {
        let reply = self.socket.send(request).map_err(|(_, failure)| failure).and_then(|()| self.socket.recv());
        // As after TIMEOUT nobody knows whether it was done.
        let reply = reply.map_err(|failure| refusal("TIMEOUT", &format!("no reply: {failure}")))?;
        let reply = rmpv::decode::read_value(&mut &reply[..]).ok();
        let Some([_, _, error, result]) = reply.as_ref().and_then(Value::as_array).map(Vec::as_slice) else {
            return Err(refusal("INTERNAL", "malformed reply"));
        };
        outcome(error, result)
    }
}

fn refusal(code: &str, text: &str) -> ReplyError {
    ReplyError { code: code.into(), text: text.into() }
}

/// Of an error, nil or [code, text], and a result.
fn outcome(error: &Value, result: &Value) -> Result<Value, ReplyError> {
    if error.is_nil() {
        return Ok(result.clone());
    }
    let word = |i: usize| error[i].as_str().unwrap_or("");
    Err(refusal(word(0), word(1)))
}

fn text(result: &Value) -> String {
    match result {
        Value::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::String(status) => status.as_str().unwrap_or_default().to_string(),
        other => other.to_string(), // 42, nil
    }
}

fn words(params: &[&str]) -> Vec<Value> {
    params.iter().map(|&word| word.into()).collect()
}

/// As an element of a batch.
fn command(method: &str, params: &[&str]) -> Value {
    Value::Array(vec![method.into(), words(params).into()])
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:7400".into());
    let skerry = Skerry::connect(&address)?;
    let new_id = || skerry.new_id();

    println!("SET: {}", text(&skerry.call(&new_id(), "SET", words(&["hello:greeting", "hello"]))?));
    println!("GET: {}", text(&skerry.call(&new_id(), "GET", words(&["hello:greeting"]))?));
    println!("GET of a missing key: {}", text(&skerry.call(&new_id(), "GET", words(&["hello:missing"]))?));

    // Many commands in one message. It is not atomic; each has its own error and result. Whoever finds TIMEOUT among
    // the errors sends the whole batch again under the same id.
    let commands = vec![
        command("SET", &["hello:visits", "41"]),
        command("STRLEN", &["hello:greeting"]),
        command("INCR", &["hello:greeting"]),
    ];
    let replies = skerry.call(&new_id(), "batch", commands)?;
    let texts: Vec<String> = replies
        .as_array()
        .ok_or("malformed reply")?
        .iter()
        .map(|pair| outcome(&pair[0], &pair[1]).map_or_else(|error| error.code, |result| text(&result)))
        .collect();
    println!("batch: {}", texts.join(", "));

    let id = new_id();
    println!("INCR: {}", text(&skerry.call(&id, "INCR", words(&["hello:visits"]))?));
    // answered again, not done again
    println!("INCR with the same id: {}", text(&skerry.call(&id, "INCR", words(&["hello:visits"]))?));

    if let Err(error) = skerry.call(&new_id(), "INCR", words(&["hello:greeting"])) {
        println!("INCR of a text: {}", error.code);
    }
    Ok(())
}
