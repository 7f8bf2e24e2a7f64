//! Empties a UDP socket into an arena, message by message: `Inlet` of usernet/aio/inlet.py, where it is specified.
//!
//! A message costs little more than its system call here.  Through the socket module it is one, a list, a view, a tuple
//! and a list of tuples, and the end of them an exception.  nix does without `unsafe` of ours.

use std::io::IoSliceMut;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyTuple};

use crate::writable;

// As in inlet.py.
const ROOM: usize = 65_536;
const SLOT: usize = 2048;
const MAX_SLOTS: usize = 64;
const LINE: usize = 64;
const MAX_MESSAGES: usize = 256;

// As in stripes.py.
const STRIPE: u8 = 64;
const COUNTER_AT: usize = 8;

#[pyclass]
pub struct Inlet {
    socket: i32,
    stripe: Option<u8>,
    control: Vec<u8>,
    source: Option<(SockaddrStorage, Py<PyTuple>)>, // of the last datagram, and as Python has it
    local: Py<PyBytes>,                             // what it came to
}

/// Source, first byte in the arena, stride, lengths, TOS, our address.
#[derive(IntoPyObject)]
struct Group(Py<PyTuple>, usize, usize, Vec<usize>, u8, Py<PyBytes>);

/// What came beside a message.
#[derive(Default)]
struct Told {
    segment: usize,
    tos: u8,
    local: ([u8; 16], usize), // and how much of it is an address
}

type Received = (Vec<Group>, usize, usize, Vec<&'static str>, i32);

#[pymethods]
impl Inlet {
    #[new]
    #[pyo3(signature = (socket, stripe=None))]
    fn new(py: Python, socket: i32, stripe: Option<u8>) -> Self {
        let control = cmsg_space!(i32, i32, [u8; 20]);
        Inlet { socket, stripe, control, source: None, local: PyBytes::new(py, b"").unbind() }
    }

    fn receive(&mut self, py: Python, arena: &Bound<PyByteArray>, mut at: usize) -> PyResult<Received> {
        let buf = writable(arena, [])?;
        let (mut groups, mut dropped): (Vec<Group>, _) = (Vec::new(), Vec::new());
        let mut open = false; // the last group is of slots, and takes more
        for messages in 0..MAX_MESSAGES {
            let Some(room) = buf.get_mut(at..at.saturating_add(ROOM)) else {
                return Ok((groups, at, messages, dropped, 0));
            };
            let mut parts = [IoSliceMut::new(room)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let message = loop {
                match recvmsg::<SockaddrStorage>(self.socket, &mut parts, Some(&mut self.control), flags) {
                    Err(Errno::EINTR) => {}
                    Err(error) => return Ok((groups, at, messages, dropped, error as i32)),
                    Ok(message) => break message,
                }
            };
            let size = message.bytes;
            let told = match message.cmsgs() {
                Ok(messages) if size > 0 && !message.flags.contains(MsgFlags::MSG_TRUNC) => Told::of(messages),
                _ => {
                    dropped.push(if size > 0 { "truncated" } else { "empty" });
                    continue;
                }
            };
            let Some(address) = message.address else { continue }; // a UDP socket always has one
            let source = self.source(py, address)?;
            let local = self.local(py, &told.local.0[..told.local.1]);
            let last; // datagram's first byte
            if told.segment > 0 || size > SLOT {
                let stride = if told.segment > 0 { told.segment.min(size) } else { size };
                let lengths = (0..size).step_by(stride).map(|start| stride.min(size - start)).collect();
                groups.push(Group(source, at, stride, lengths, told.tos, local));
                last = at + (size - 1) / stride * stride;
                at += size.next_multiple_of(LINE);
                open = false;
            } else {
                match groups.last_mut() {
                    Some(group)
                        if open
                            && group.3.len() < MAX_SLOTS
                            && group.4 == told.tos
                            && group.0.is(&source)
                            && group.5.is(&local) =>
                    {
                        group.3.push(size);
                    }
                    _ => groups.push(Group(source, at, SLOT, vec![size], told.tos, local)),
                }
                last = at;
                at += SLOT;
                open = true;
            }
            if self.stripe.is_some_and(|stripe| buf[last + COUNTER_AT].wrapping_add(1) / STRIPE != stripe) {
                return Ok((groups, at, messages + 1, dropped, 0));
            }
        }
        Ok((groups, at, MAX_MESSAGES, dropped, 0))
    }
}

impl Inlet {
    /// The same object as long as the address is the same.
    fn source(&mut self, py: Python, address: SockaddrStorage) -> PyResult<Py<PyTuple>> {
        if let Some((last, known)) = &self.source
            && *last == address
        {
            return Ok(known.clone_ref(py));
        }
        let source = if let Some(ip) = address.as_sockaddr_in() {
            (ip.ip().to_string(), ip.port()).into_pyobject(py)?
        } else if let Some(ip) = address.as_sockaddr_in6() {
            let flow = u32::from_be(ip.flowinfo());
            (ip.ip().to_string(), ip.port(), flow, ip.scope_id()).into_pyobject(py)?
        } else {
            PyTuple::empty(py)
        };
        self.source = Some((address, source.clone().unbind()));
        Ok(source.unbind())
    }

    /// As above.
    fn local(&mut self, py: Python, local: &[u8]) -> Py<PyBytes> {
        if self.local.bind(py).as_bytes() != local {
            self.local = PyBytes::new(py, local).unbind();
        }
        self.local.clone_ref(py)
    }
}

impl Told {
    fn of(messages: impl Iterator<Item = ControlMessageOwned>) -> Self {
        let mut told = Told::default();
        for message in messages {
            match message {
                ControlMessageOwned::UdpGroSegments(size) => told.segment = usize::try_from(size).unwrap_or(0),
                ControlMessageOwned::Ipv4Tos(tos) => told.tos = tos,
                ControlMessageOwned::Ipv6TClass(class) => told.tos = class as u8,
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    told.local.0[..4].copy_from_slice(&info.ipi_spec_dst.s_addr.to_ne_bytes());
                    told.local.1 = 4;
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => told.local = (info.ipi6_addr.s6_addr, 16),
                _ => {}
            }
        }
        told
    }
}
