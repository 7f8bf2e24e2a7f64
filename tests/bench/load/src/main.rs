//! The load of `make bench`: threads with blocking sockets, and one line of JSON for each run.
//!
//!     load get  via=socks5 proxy=127.0.0.1:1080 to=192.0.2.129:80 clients=50 seconds=5 [fresh=1] [path=/]
//!     load down via=...    streams=8 path=/blob
//!     load up   via=...    streams=8 bytes=16777216 path=/discard
//!     load hold via=...    count=1000       holds them until its standard input ends
//!     load udp  proxy=...  to=192.0.2.129:7 clients=8 seconds=5 size=512
//!     load echo at=192.0.2.129:7            the far end of `udp`
//!
//! `via` is direct, socks5, http (forwarding) or connect.  With fresh=1 each request has a connection of its own, whose
//! set-up counts in its latency.

mod client;

use client::{read_answer, socks5, Route, Via};
use std::collections::HashMap;
use std::io::{self, Error, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

const OPENERS: usize = 16;
const WINDOW: usize = 32; // datagrams of a client that are under way
const LOST: Duration = Duration::from_millis(200); // a window that has not come back by then will not
const PAUSE: Duration = Duration::from_millis(10); // after an error, lest a dead proxy makes a busy loop

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = run(&arguments) {
        eprintln!("load: {error}");
        std::process::exit(1);
    }
}

fn run(arguments: &[String]) -> io::Result<()> {
    let (mode, rest) = arguments.split_first().ok_or_else(|| Error::other("which mode?"))?;
    let options = Options(rest.iter().filter_map(|word| word.split_once('=')).collect());
    match mode.as_str() {
        "get" => get(&options),
        "down" => bulk(&options, false),
        "up" => bulk(&options, true),
        "hold" => hold(&options),
        "udp" => udp(&options),
        "echo" => echo(options.need("at")?),
        _ => Err(Error::other("no such mode")),
    }
}

struct Options<'a>(HashMap<&'a str, &'a str>);

impl Options<'_> {
    fn need<T: FromStr>(&self, name: &str) -> io::Result<T> {
        let value = self.0.get(name).ok_or_else(|| Error::other(format!("{name}= is missing")))?;
        value.parse().map_err(|_| Error::other(format!("{name}={value}")))
    }

    fn path(&self) -> &str {
        self.0.get("path").copied().unwrap_or("/")
    }

    fn route(&self) -> io::Result<Route> {
        let via = match self.0.get("via").copied() {
            Some("direct") => Via::Direct,
            Some("socks5") => Via::Socks5,
            Some("http") => Via::Http,
            Some("connect") => Via::Connect,
            _ => return Err(Error::other("via=direct|socks5|http|connect")),
        };
        Ok(Route { via, proxy: self.need("proxy")?, to: self.need("to")? })
    }
}

/// What one thread saw.
#[derive(Default)]
struct Seen {
    done: u64,           // requests, datagrams or bytes, before time was up
    latencies: Vec<u32>, // us, of all that were answered
    connections: u64,
    errors: u64,
    error: Option<String>, // the first one
}

impl Seen {
    fn failed(&mut self, error: &Error) {
        self.errors += 1;
        self.error.get_or_insert_with(|| error.to_string());
    }
}

/// Runs `work` in `count` threads, and puts together what they saw.
fn threads<W>(count: usize, work: W) -> Seen
where
    W: Fn(usize) -> Seen + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let started: Vec<_> = (0..count)
        .map(|number| {
            let work = Arc::clone(&work);
            thread::spawn(move || work(number))
        })
        .collect();
    let mut all = Seen::default();
    for one in started.into_iter().map(|handle| handle.join().expect("a thread of ours panicked")) {
        all.done += one.done;
        all.latencies.extend(one.latencies);
        all.connections += one.connections;
        all.errors += one.errors;
        all.error = all.error.or(one.error);
    }
    all.latencies.sort_unstable();
    all
}

/// One line: what was asked for, then the errors.
fn report(fields: &[(&str, f64)], seen: &Seen) {
    let mut line = String::from("{");
    for (name, value) in fields {
        line += &format!("\"{name}\": {value:.3}, ");
    }
    let error = seen.error.as_deref().unwrap_or("").replace(['"', '\\'], "'");
    println!("{line}\"errors\": {}, \"error\": \"{error}\"}}", seen.errors);
}

/// Milliseconds; the least latency that `share` of them do not exceed.
fn percentile(sorted: &[u32], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).map_or(f64::NAN, |&us| f64::from(us) / 1000.0)
}

fn get(options: &Options) -> io::Result<()> {
    let route = options.route()?;
    let clients: usize = options.need("clients")?;
    let length = Duration::from_secs_f64(options.need("seconds")?);
    let fresh = options.0.contains_key("fresh");
    let request = route.head("GET", options.path(), "");
    let all_warm = Barrier::new(clients);
    let seen = threads(clients, move |_| {
        let mut seen = Seen::default();
        let (mut open, mut buffer) = (None, Vec::new());
        // One request before time starts: the keep-alive row is about requests, not about connecting.
        if let Err(error) = ask(&route, &request, &mut open, &mut buffer, &mut seen.connections) {
            seen.failed(&error);
        }
        all_warm.wait();
        seen.connections = 0;
        let end = Instant::now() + length;
        loop {
            if fresh {
                open = None;
            }
            let began = Instant::now();
            if began >= end {
                return seen;
            }
            match ask(&route, &request, &mut open, &mut buffer, &mut seen.connections) {
                Ok(()) => {
                    let now = Instant::now();
                    seen.latencies.push((now - began).as_micros() as u32);
                    seen.done += u64::from(now <= end);
                }
                Err(error) => {
                    seen.failed(&error);
                    open = None;
                    thread::sleep(PAUSE);
                }
            }
        }
    });
    let latencies = &seen.latencies;
    let fields = [
        ("requests", seen.done as f64),
        ("rate", seen.done as f64 / length.as_secs_f64()),
        ("p50_ms", percentile(latencies, 0.5)),
        ("p99_ms", percentile(latencies, 0.99)),
        ("max_ms", percentile(latencies, 1.0)),
        ("connections", seen.connections as f64),
    ];
    // JSON knows no NaN: without an answer there are no latencies.
    report(if latencies.is_empty() { &fields[..2] } else { &fields }, &seen);
    Ok(())
}

/// One request, on the open connection if there is one; it stays open if the server lets it.
fn ask(
    route: &Route,
    request: &[u8],
    open: &mut Option<TcpStream>,
    buffer: &mut Vec<u8>,
    connections: &mut u64,
) -> io::Result<()> {
    if let Some(stream) = open.take() {
        // RFC 9112, 9.3.1: a server may have closed it meanwhile; then the request goes out once more.
        if let Ok(again) = exchange(stream, request, buffer) {
            *open = again;
            return Ok(());
        }
    }
    *connections += 1;
    *open = exchange(route.connect()?, request, buffer)?;
    Ok(())
}

fn exchange(mut stream: TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> io::Result<Option<TcpStream>> {
    stream.write_all(request)?;
    Ok(read_answer(&mut stream, buffer, |_| ())?.keeps.then_some(stream))
}

fn bulk(options: &Options, up: bool) -> io::Result<()> {
    let route = options.route()?;
    let streams: usize = options.need("streams")?;
    let bytes: u64 = if up { options.need("bytes")? } else { 0 };
    let fields = format!("Content-Length: {bytes}\r\n");
    let head = if up { route.head("PUT", options.path(), &fields) } else { route.head("GET", options.path(), "") };
    let began = Instant::now();
    let seen = threads(streams, move |_| {
        let mut seen = Seen { connections: 1, ..Seen::default() };
        match transfer(&route, &head, bytes) {
            Ok(done) => seen.done = done,
            Err(error) => seen.failed(&error),
        }
        seen
    });
    let seconds = began.elapsed().as_secs_f64();
    report(&[("bytes", seen.done as f64), ("seconds", seconds), ("rate", seen.done as f64 / seconds / 1e6)], &seen);
    Ok(())
}

/// Bytes down, or with `bytes` up, as the sink at the far end has counted them.
fn transfer(route: &Route, head: &[u8], bytes: u64) -> io::Result<u64> {
    let mut stream = route.connect()?;
    stream.write_all(head)?;
    let piece = vec![0x5a; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        let n = stream.write(&piece[..piece.len().min(left as usize)])?;
        left -= n as u64;
    }
    let mut counted = Vec::new();
    let answer = read_answer(&mut stream, &mut Vec::new(), |body| {
        if bytes > 0 {
            counted.extend(body);
        }
    })?;
    if bytes > 0 && !counted.starts_with(format!("{bytes} ").as_bytes()) {
        return Err(Error::other("the sink has counted something else"));
    }
    Ok(if bytes > 0 { bytes } else { answer.length })
}

/// Each connection has had one answer, so it reaches the far server whatever the proxy says before it has dialled.
fn hold(options: &Options) -> io::Result<()> {
    let route = options.route()?;
    let count: usize = options.need("count")?;
    let request = route.head("GET", options.path(), "");
    let (held, holders) = std::sync::mpsc::channel();
    let began = Instant::now();
    let seen = threads(OPENERS.min(count), move |number| {
        let mut seen = Seen::default();
        let mut buffer = Vec::new();
        for _ in (number..count).step_by(OPENERS.min(count)) {
            let mut open = None;
            match ask(&route, &request, &mut open, &mut buffer, &mut seen.connections) {
                Ok(()) => {
                    seen.done += u64::from(open.is_some());
                    held.send(open).expect("the receiver outlives us");
                }
                Err(error) => seen.failed(&error),
            }
        }
        seen
    });
    let holders: Vec<Option<TcpStream>> = holders.try_iter().collect();
    report(&[("up", seen.done as f64), ("seconds", began.elapsed().as_secs_f64())], &seen);
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(holders);
    Ok(())
}

/// RFC 1928, 7: the association lasts as long as its TCP connection.
fn udp(options: &Options) -> io::Result<()> {
    let proxy: SocketAddr = options.need("proxy")?;
    let to = options.need("to")?;
    let (clients, size): (usize, usize) = (options.need("clients")?, options.need("size")?);
    let length = Duration::from_secs_f64(options.need("seconds")?);
    let associate = move || -> io::Result<(TcpStream, UdpSocket)> {
        let mut control = TcpStream::connect(proxy)?;
        control.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut relay = SocketAddr::from(socks5(&mut control, 3, "0.0.0.0:0".parse().expect("an address"))?);
        if relay.ip().is_unspecified() {
            relay.set_ip(proxy.ip());
        }
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(relay)?;
        socket.set_read_timeout(Some(LOST))?;
        Ok((control, socket))
    };
    drop(associate()?);
    let seen = threads(clients, move |_| {
        let mut seen = Seen::default();
        let (_control, socket) = match associate() {
            Ok(both) => both,
            Err(error) => {
                seen.failed(&error);
                return seen;
            }
        };
        let mut datagram = vec![0, 0, 0, 1];
        datagram.extend(to_bytes(to));
        datagram.resize(10 + size, 0x5a);
        let mut buffer = vec![0; 65536];
        let end = Instant::now() + length;
        let mut under_way = 0;
        while Instant::now() < end {
            while under_way < WINDOW {
                // A full queue is what the window is for; a refusal shows as loss.
                let _ = socket.send(&datagram);
                under_way += 1;
            }
            match socket.recv(&mut buffer) {
                Ok(n) if n == datagram.len() => {
                    seen.done += 1;
                    under_way -= 1;
                }
                Ok(_) => seen.failed(&Error::other("a datagram of another size")),
                Err(_) => {
                    seen.errors += under_way as u64;
                    under_way = 0;
                }
            }
        }
        seen
    });
    report(&[("datagrams", seen.done as f64), ("rate", seen.done as f64 / length.as_secs_f64())], &seen);
    Ok(())
}

fn to_bytes(to: std::net::SocketAddrV4) -> Vec<u8> {
    [&to.ip().octets()[..], &to.port().to_be_bytes()[..]].concat()
}

fn echo(at: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    let mut buffer = vec![0; 65536];
    loop {
        let (n, from) = socket.recv_from(&mut buffer)?;
        let _ = socket.send_to(&buffer[..n], from);
    }
}
