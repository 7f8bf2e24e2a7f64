//! The burst kernel in Rust, on ring's ChaCha20-Poly1305: `Kernel` of packets.py, where everything is specified.
//!
//! This file is the border to Python; `opening` and `flows` are the way in, `sealing` the way out, all of them on slices.
//! The GIL is held throughout: a call takes some 60 us at most, and to get it back beside a busy thread would take
//! longer.  `worker` does the way out once more, on a thread that has nothing to do with Python, and `inlet` empties the
//! socket.

mod flows;
#[cfg(target_os = "linux")] // UDP_GRO
mod inlet;
mod opening;
mod packet;
mod replay;
mod sealing;
mod sums;
#[cfg(target_os = "linux")] // UDP_SEGMENT and eventfd
mod worker;

use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyTuple, PyType};
use ring::aead::{CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use opening::Receiver;
use replay::ReplayWindow;
use sealing::{Output, Sender, SuperPacket};

/// Goes up with every change that Python sees: a kernel that was built for another version is not used.
const INTERFACE: u32 = 4;
const TRANSPORT_DATA: u32 = 4;
const HEADER_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;
const MAX_DATAGRAM: usize = 65_535;
/// One sendmsg with UDP_SEGMENT carries at most this, as in packets.py.
const MAX_RUN_SEGMENTS: usize = 64;
const MAX_RUN_BYTES: usize = 65_474;
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13); // the paper, 6.1

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn aead(key: &[u8]) -> PyResult<Option<LessSafeKey>> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| PyValueError::new_err("a key has 32 bytes"))?;
    Ok(Some(LessSafeKey::new(key)))
}

#[pyclass]
struct ReceiveKey(Receiver);

#[pymethods]
impl ReceiveKey {
    fn wipe(&mut self) {
        self.0.key = None;
    }
}

#[pyclass]
pub struct SendKey(Sender);

#[pymethods]
impl SendKey {
    #[getter]
    fn counter(&self) -> u64 {
        self.0.counter
    }

    #[setter]
    fn set_counter(&mut self, counter: u64) {
        self.0.counter = counter;
    }

    fn wipe(&mut self) {
        self.0.key = None;
    }
}

#[pyclass]
struct Kernel {
    scratch: Box<[u8; MAX_DATAGRAM]>,
    opened: Py<PyType>,
}

#[pymethods]
impl Kernel {
    #[classattr]
    fn name() -> &'static str {
        "native"
    }

    #[new]
    fn new(py: Python) -> PyResult<Self> {
        let opened = py.import("usernet.burst.packets")?.getattr("Opened")?.cast_into()?.unbind();
        Ok(Kernel { scratch: Box::new([0; MAX_DATAGRAM]), opened })
    }

    fn receive_key(&self, key: &[u8], local_index: u32) -> PyResult<ReceiveKey> {
        Ok(ReceiveKey(Receiver { key: aead(key)?, local_index, window: ReplayWindow::new() }))
    }

    fn send_key(&self, key: &[u8], remote_index: u32) -> PyResult<SendKey> {
        Ok(SendKey(Sender { key: aead(key)?.map(Arc::new), remote_index, counter: 0 }))
    }

    fn open_burst<'py>(
        &mut self,
        py: Python<'py>,
        key: &mut ReceiveKey,
        burst: &Bound<'py, PyTuple>,
        start: usize,
        out: &Bound<'py, PyAny>,
        drops: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let source = PyBuffer::get(&burst.get_item(1)?)?;
        let source = bytes_of(&source)?;
        let stride: usize = burst.get_item(2)?.extract()?;
        let lengths = burst.get_item(3)?.cast_into::<PyList>()?;
        let outer: u8 = burst.get_item(4)?.extract()?;
        let mut datagrams = Vec::with_capacity(lengths.len().saturating_sub(start));
        for number in start..lengths.len() {
            let length: usize = lengths.get_item(number)?.extract()?;
            let at = number.saturating_mul(stride);
            let end = at.checked_add(length).filter(|end| *end <= source.len());
            datagrams.push(&source[at..end.ok_or_else(|| PyValueError::new_err("a datagram ends beyond its buffer"))?]);
        }
        let rows = out.getattr("rows")?.cast_into::<PyList>()?;
        let used = match rows.len() {
            0 => 0,
            count => {
                let last = rows.get_item(count - 1)?;
                last.get_item(0)?.extract::<usize>()? + last.get_item(1)?.extract::<usize>()?
            }
        };
        let buf = out.getattr("buf")?.cast_into::<PyByteArray>()?;
        let buf = writable(&buf, [source])?;
        let outcome = key.0.open(&datagrams, outer & 3, buf, used, &mut self.scratch);
        for row in outcome.rows {
            let fields = [row.start, row.length, row.mss, row.segments, row.transport, usize::from(row.flags)];
            rows.append(PyTuple::new(py, fields)?)?;
        }
        for reason in outcome.drops {
            drops.call_method1("count", (reason,))?;
        }
        self.opened.bind(py).call1((outcome.datagrams, outcome.authentic, outcome.authentic_bytes, outcome.data))
    }

    fn seal_burst(
        &self,
        key: &mut SendKey,
        packets: &Bound<PyList>,
        mtu: usize,
        out: &Bound<PyByteArray>,
        at: usize,
    ) -> PyResult<Vec<(usize, usize, usize)>> {
        let held: Vec<HeldPacket> = packets.iter().map(HeldPacket::new).collect::<PyResult<_>>()?;
        let mut views = Vec::with_capacity(held.len());
        for packet in &held {
            let view = SuperPacket { header: packet.header.as_bytes(), pieces: packet.slices()?, mss: packet.mss };
            if view.is_malformed() {
                return Err(PyValueError::new_err("the header of a super-packet is not one of TCP over IP"));
            }
            views.push(view);
        }
        let buf = writable(out, views.iter().flat_map(|view| view.pieces.iter().copied()))?;
        let mut output = Output::new(buf, at);
        key.0.seal(&views, mtu, &mut output).ok_or_else(|| PyValueError::new_err("the output buffer is too small"))?;
        Ok(output.runs)
    }
}

/// A super-packet with its buffers kept alive.
struct HeldPacket<'py> {
    header: Bound<'py, PyBytes>,
    pieces: Vec<Held<'py>>,
    mss: usize,
}

impl<'py> HeldPacket<'py> {
    fn new(packet: Bound<'py, PyAny>) -> PyResult<Self> {
        let packet = packet.cast_into::<PyTuple>()?;
        let pieces = packet.get_item(1)?.cast_into::<PyTuple>()?;
        Ok(HeldPacket {
            header: packet.get_item(0)?.cast_into()?,
            pieces: pieces.iter().map(Held::new).collect::<PyResult<_>>()?,
            mss: packet.get_item(2)?.extract()?,
        })
    }

    fn slices(&self) -> PyResult<Vec<&[u8]>> {
        self.pieces.iter().map(Held::bytes).collect()
    }
}

enum Held<'py> {
    Bytes(Bound<'py, PyBytes>),
    Buffer(PyBuffer<u8>),
}

impl<'py> Held<'py> {
    fn new(piece: Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(match piece.cast_into::<PyBytes>() {
            Ok(bytes) => Held::Bytes(bytes),
            Err(error) => Held::Buffer(PyBuffer::get(&error.into_inner())?),
        })
    }

    fn bytes(&self) -> PyResult<&[u8]> {
        match self {
            Held::Bytes(bytes) => Ok(bytes.as_bytes()),
            Held::Buffer(buffer) => bytes_of(buffer),
        }
    }
}

// --- Python's memory.  The GIL is held as long as these slices live, and no Python code runs while one is written. ---

fn bytes_of(buffer: &PyBuffer<u8>) -> PyResult<&[u8]> {
    let pointer = buffer.as_slice_ptr().ok_or_else(|| PyBufferError::new_err("a buffer is not contiguous"))?;
    #[allow(unsafe_code)]
    // SAFETY: the buffer is held, contiguous and of bytes.
    Ok(unsafe { pointer.as_ref() })
}

/// All of a bytearray, which must not be where any of `others` lies.
#[allow(clippy::mut_from_ref)] // a reference to a Python object is shared, whatever is done to the object
fn writable<'a>(array: &'a Bound<PyByteArray>, others: impl IntoIterator<Item = &'a [u8]>) -> PyResult<&'a mut [u8]> {
    #[allow(unsafe_code)]
    // SAFETY: nothing else refers to it, as the check below makes sure, and nothing can resize it meanwhile.
    let buf = unsafe { array.as_bytes_mut() };
    let ours = buf.as_ptr_range();
    for other in others {
        let theirs = other.as_ptr_range();
        if theirs.start < ours.end && ours.start < theirs.end {
            return Err(PyValueError::new_err("input and output are the same memory"));
        }
    }
    Ok(buf)
}

#[pymodule]
fn _native(module: &Bound<PyModule>) -> PyResult<()> {
    module.add("INTERFACE", INTERFACE)?;
    module.add_class::<Kernel>()?;
    module.add_class::<ReceiveKey>()?;
    #[cfg(target_os = "linux")]
    {
        module.add_class::<inlet::Inlet>()?;
        module.add_class::<worker::Worker>()?;
    }
    module.add_class::<SendKey>()
}
