//! A thread that seals and sends what a fast upload hands it, on a second core, while the loop goes on with TCP.
//!
//! `submit` copies the packets and takes their counters, so that whatever is sealed elsewhere meanwhile cannot use one
//! again; the thread seals them in a buffer of its own and sends each run; `collect`, told of by an eventfd, gives what
//! became of it.  Jobs are done in their order.  Where a send fails (a full socket, too), that run and all behind it
//! come back sealed, until every job was collected: the loop sends them and sees to the error.
//!
//! The thread has nothing of Python's, neither memory nor the GIL: to copy 64 KiB takes 4 us of the 60 that sealing it
//! does, and needs no `unsafe`.  The one line of it here is that a number is a descriptor.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use socket2::{MsgHdr, SockAddr, Socket};

use crate::sealing::{Output, Sender, SuperPacket};
use crate::{HeldPacket, SendKey};

const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;

#[pyclass]
pub struct Worker {
    jobs: Channel<Job>,
    done: Arc<Mutex<Vec<Done>>>,
    in_flight: usize,
}

struct Job {
    sender: Sender, // with the counters that these packets need
    packets: Vec<Packet>,
    mtu: usize,
    size: usize,    // on the wire
    socket: Socket, // a duplicate: the original may be closed meanwhile
    address: SockAddr,
    control: Vec<u8>,
    afresh: bool, // nothing before it is still to be collected
}

struct Packet {
    header: Vec<u8>,
    payload: Vec<u8>,
    mss: usize,
}

/// What was sent of a job (datagrams, bytes, messages), and what was not: runs, with their datagrams' size.
#[derive(Default, IntoPyObject)]
struct Done(usize, usize, usize, Vec<(Vec<u8>, usize)>);

#[pymethods]
impl Worker {
    /// `event`: an eventfd of the caller's, written when something is done and nothing was.
    #[new]
    fn new(event: i32) -> PyResult<Self> {
        let event = File::from(duplicate(event)?);
        let (jobs, incoming) = channel();
        let done = Arc::default();
        let worker = Worker { jobs, done: Arc::clone(&done), in_flight: 0 };
        thread::Builder::new().name("sealing".into()).spawn(move || work(&incoming, &done, event))?;
        Ok(worker)
    }

    /// Whether this process may use more than one core, by its affinity and its cgroup's quota.
    #[staticmethod]
    fn has_core() -> bool {
        thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
    }

    /// Seal as `Kernel.seal_burst` does, and send by `socket` to `address` with `control` beside it, see cmsg(3).
    /// Returns bytes on the wire; 0 where nothing can be sealed with that key any more, and then nothing is done.
    fn submit(
        &mut self,
        key: &mut SendKey,
        packets: &Bound<PyList>,
        mtu: usize,
        socket: i32,
        address: &Bound<PyTuple>,
        control: Vec<u8>,
    ) -> PyResult<usize> {
        let packets: Vec<Packet> = packets.iter().map(Packet::copied).collect::<PyResult<_>>()?;
        let views: Vec<SuperPacket> = packets.iter().map(Packet::view).collect();
        if views.iter().any(SuperPacket::is_malformed) {
            return Err(PyValueError::new_err("the header of a super-packet is not one of TCP over IP"));
        }
        let size = views.iter().map(|view| view.sealed_size(mtu)).sum();
        let (socket, address) = (duplicate(socket)?.into(), sockaddr(address)?);
        let Some(sender) = key.0.reserve(&views) else { return Ok(0) };
        let job = Job { sender, packets, mtu, size, socket, address, control, afresh: self.in_flight == 0 };
        self.jobs.send(job).map_err(|_| PyRuntimeError::new_err("the thread has ended"))?;
        self.in_flight += 1;
        Ok(size)
    }

    /// What was done since the last call, job by job in their order.
    fn collect(&mut self) -> Vec<Done> {
        let done = std::mem::take(&mut *self.done.lock().unwrap());
        self.in_flight -= done.len();
        done
    }
}

impl Packet {
    fn copied(packet: Bound<PyAny>) -> PyResult<Self> {
        let held = HeldPacket::new(packet)?;
        Ok(Packet { header: held.header.as_bytes().to_vec(), payload: held.slices()?.concat(), mss: held.mss })
    }

    fn view(&self) -> SuperPacket<'_> {
        SuperPacket { header: &self.header, pieces: vec![&self.payload], mss: self.mss }
    }
}

impl Job {
    /// One sendmsg; with UDP_SEGMENT for more than one datagram.
    fn send(&self, data: &[u8], size: usize) -> std::io::Result<usize> {
        let mut control = self.control.clone();
        if data.len() > size {
            control.extend((size_of::<usize>() + 10).to_ne_bytes());
            control.extend([SOL_UDP.to_ne_bytes(), UDP_SEGMENT.to_ne_bytes()].concat());
            control.extend((size as u16).to_ne_bytes());
            control.resize(control.len().next_multiple_of(size_of::<usize>()), 0);
        }
        let parts = [IoSlice::new(data)];
        let message = MsgHdr::new().with_addr(&self.address).with_buffers(&parts).with_control(&control);
        self.socket.sendmsg(&message, 0)
    }
}

fn work(incoming: &Receiver<Job>, done: &Mutex<Vec<Done>>, mut event: File) {
    let (mut out, mut failed) = (Vec::new(), false);
    for mut job in incoming {
        out.resize(job.size.max(out.len()), 0);
        let mut output = Output::new(&mut out, 0);
        let views: Vec<SuperPacket> = job.packets.iter().map(Packet::view).collect();
        job.sender.seal(&views, job.mtu, &mut output).expect("as large as `sealed_size` says");
        failed &= !job.afresh;
        let mut report = Done::default();
        for (start, end, size) in output.runs {
            let data = &out[start..end];
            failed = failed || job.send(data, size).is_err();
            if failed {
                report.3.push((data.to_vec(), size));
            } else {
                report.0 += data.len().div_ceil(size);
                report.1 += data.len();
                report.2 += 1;
            }
        }
        drop(job); // its socket before anybody hears of it
        let mut queue = done.lock().unwrap();
        queue.push(report);
        if queue.len() == 1 {
            let _ = event.write(&1u64.to_ne_bytes());
        }
    }
}

/// As the socket module has it: (host, port) or (host, port, flow, scope).
fn sockaddr(address: &Bound<PyTuple>) -> PyResult<SockAddr> {
    let host = address.get_item(0)?.extract::<String>()?;
    let ip: IpAddr = host.split('%').next().unwrap_or_default().parse().map_err(PyValueError::new_err)?;
    let port = address.get_item(1)?.extract()?;
    Ok(match ip {
        IpAddr::V6(ip) => {
            let (flow, scope): (u32, u32) = (address.get_item(2)?.extract()?, address.get_item(3)?.extract()?);
            SockAddr::from(SocketAddrV6::new(ip, port, flow.to_be(), scope))
        }
        IpAddr::V4(_) => SockAddr::from(SocketAddr::new(ip, port)),
    })
}

fn duplicate(fd: i32) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(PyOSError::new_err("not a descriptor"));
    }
    #[allow(unsafe_code)]
    // SAFETY: borrowed for the length of this call, in which the caller's object keeps it open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(borrowed.try_clone_to_owned()?)
}
