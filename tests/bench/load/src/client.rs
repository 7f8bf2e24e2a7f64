//! One connection through the proxy under test, and HTTP on it: as little as a client can do, so that the proxy is what
//! takes the time.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 16 << 10;

#[derive(Clone, Copy, PartialEq)]
pub enum Via {
    /// The listener is itself a way to the far server (a port forward).
    Direct,
    Socks5,
    /// HTTP forwarding: the request names the whole URL.
    Http,
    Connect,
}

/// Where to, and which way.
#[derive(Clone)]
pub struct Route {
    pub via: Via,
    pub proxy: SocketAddr,
    pub to: SocketAddrV4,
}

impl Route {
    /// A connection on which the far server, or for `Via::Http` the proxy, waits for a request.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.proxy, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        match self.via {
            Via::Direct | Via::Http => {}
            Via::Socks5 => {
                socks5(&mut stream, 1, self.to)?;
            }
            Via::Connect => {
                write!(stream, "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", self.to)?;
                let mut buffer = Vec::new();
                let head = read_head(&mut stream, &mut buffer)?;
                if !head.starts_with("HTTP/1.1 2") && !head.starts_with("HTTP/1.0 2") {
                    return Err(Error::other(format!("CONNECT: {}", head.lines().next().unwrap_or(""))));
                }
            }
        }
        Ok(stream)
    }

    /// A request's head; `fields` are more of its lines.
    pub fn head(&self, method: &str, path: &str, fields: &str) -> Vec<u8> {
        let origin = if self.via == Via::Http { format!("http://{}", self.to) } else { String::new() };
        format!("{method} {origin}{path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.to).into_bytes()
    }
}

/// RFC 1928: no authentication, then `command` (1 CONNECT, 3 UDP ASSOCIATE); the address in the reply.
pub fn socks5(stream: &mut TcpStream, command: u8, to: SocketAddrV4) -> io::Result<SocketAddrV4> {
    stream.write_all(&[5, 1, 0])?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    if chosen != [5, 0] {
        return Err(Error::other(format!("SOCKS5 method {}", chosen[1])));
    }
    let mut request = vec![5, command, 0, 1];
    request.extend(to.ip().octets());
    request.extend(to.port().to_be_bytes());
    stream.write_all(&request)?;
    let mut start = [0; 4];
    stream.read_exact(&mut start)?;
    if start[1] != 0 {
        return Err(Error::other(format!("SOCKS5 reply {}", start[1])));
    }
    let mut rest = vec![0; if start[3] == 4 { 18 } else { 6 }];
    stream.read_exact(&mut rest)?;
    if start[3] != 1 {
        return Err(Error::other(format!("SOCKS5 address type {}", start[3])));
    }
    let port = u16::from_be_bytes([rest[4], rest[5]]);
    Ok(SocketAddrV4::new([rest[0], rest[1], rest[2], rest[3]].into(), port))
}

/// What an answer was: its body's length, and whether the connection may be used again.
pub struct Answer {
    pub length: u64,
    pub keeps: bool,
}

/// Reads one answer to its end.  `buffer` is the caller's to spare an allocation; `body` gets each piece.
pub fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>, mut body: impl FnMut(&[u8])) -> io::Result<Answer> {
    buffer.clear();
    let head = read_head(stream, buffer)?;
    let status = head.split(' ').nth(1).unwrap_or("");
    if status != "200" {
        return Err(Error::other(format!("status {status}")));
    }
    let field = |name: &str| {
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_ascii_lowercase())
            .next()
    };
    let length: u64 = field("content-length")
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Error::other("an answer without a length"))?;
    let keeps = field("connection").as_deref() != Some("close");
    body(buffer);
    let mut left = length.checked_sub(buffer.len() as u64).ok_or_else(|| Error::other("more than the length"))?;
    if left > 0 {
        buffer.resize(if left > 65536 { 256 << 10 } else { 4096 }, 0);
    }
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = stream.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        body(&buffer[..n]);
        left -= n as u64;
    }
    Ok(Answer { length, keeps })
}

/// The head, without its empty line; what came after it stays in `buffer`.
fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<String> {
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            return Ok(head);
        }
        if buffer.len() > MAX_HEAD {
            return Err(Error::other("an endless head"));
        }
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        buffer.extend(&piece[..n]);
    }
}
