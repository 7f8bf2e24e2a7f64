//! Sealing super-packets for one peer: cut, fill in headers, checksum, pad, seal, frame.
//!
//! The WireGuard paper, 5.4.6; RFC 9293 (3.1) and 1071 for the checksums.  Each segment is put together where it will
//! be sent from, and sealed there: payload is copied once.

use std::sync::Arc;

use ring::aead::{Aad, LessSafeKey};

use crate::packet::{TCP, addresses, word};
use crate::sums::{fold, pseudo, sum};
use crate::{
    HEADER_BYTES, MAX_RUN_BYTES, MAX_RUN_SEGMENTS, OVERHEAD_BYTES, REJECT_AFTER_MESSAGES, TRANSPORT_DATA, nonce,
};

const FIN_OR_PSH: u8 = 0x09; // for the last segment only

/// One direction of a session.  A wiped one has no key.
pub struct Sender {
    pub key: Option<Arc<LessSafeKey>>, // a job of the worker's has it, too
    pub remote_index: u32,
    /// Of the next packet.
    pub counter: u64,
}

/// `SuperPacket` of packets.py.
pub struct SuperPacket<'a> {
    pub header: &'a [u8],
    pub pieces: Vec<&'a [u8]>,
    pub mss: usize,
}

impl SuperPacket<'_> {
    fn payload(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    fn segments(&self) -> usize {
        if self.mss == 0 { 1 } else { self.payload().div_ceil(self.mss).max(1) }
    }

    /// Bytes of output that sealing it takes.
    pub fn sealed_size(&self, mtu: usize) -> usize {
        let (last, whole) = (self.payload() - self.whole() * self.mss, self.whole());
        whole * datagram_size(self.header.len() + self.mss, mtu) + datagram_size(self.header.len() + last, mtu)
    }

    /// Segments before the last one.
    fn whole(&self) -> usize {
        self.segments() - 1
    }

    /// A header that cannot be filled in.
    pub fn is_malformed(&self) -> bool {
        let least = match self.header.first() {
            Some(byte) if byte >> 4 == 4 => 40,
            _ => 60,
        };
        self.mss > 0 && self.header.len() < least
    }
}

/// Padded to a multiple of 16, but not beyond the MTU.
fn padded_size(length: usize, mtu: usize) -> usize {
    length.max(length.next_multiple_of(16).min(mtu))
}

fn datagram_size(length: usize, mtu: usize) -> usize {
    padded_size(length, mtu) + OVERHEAD_BYTES
}

/// Where datagrams are put one behind the other, and the runs that one sendmsg can take.
pub struct Output<'a> {
    buf: &'a mut [u8],
    at: usize,
    run: (usize, usize, usize), // where the current one begins, its datagrams' size, how many
    pub runs: Vec<(usize, usize, usize)>,
}

impl<'a> Output<'a> {
    pub fn new(buf: &'a mut [u8], at: usize) -> Self {
        Output { buf, at, run: (at, 0, 0), runs: Vec::new() }
    }

    /// Room for one more datagram.  None where the buffer ends.
    fn datagram(&mut self, size: usize) -> Option<&mut [u8]> {
        let (start, run_size, count) = self.run;
        let end = self.at + size;
        if end > self.buf.len() {
            return None;
        }
        if size > run_size || count >= MAX_RUN_SEGMENTS || end - start > MAX_RUN_BYTES {
            self.end_run();
            self.run = (self.at, size, 0);
        }
        let (_, run_size, count) = &mut self.run;
        *count = if size == *run_size { *count + 1 } else { MAX_RUN_SEGMENTS }; // a shorter one ends its run
        let room = &mut self.buf[self.at..end];
        self.at = end;
        Some(room)
    }

    pub fn end_run(&mut self) {
        let (start, size, count) = self.run;
        if count > 0 {
            self.runs.push((start, self.at, size));
        }
    }
}

impl Sender {
    /// The counters that these packets need, as a sender of their own.  None where there are not as many, or no key.
    pub fn reserve(&mut self, packets: &[SuperPacket]) -> Option<Sender> {
        let key = self.key.clone()?;
        let count: usize = packets.iter().map(SuperPacket::segments).sum();
        let end = self.counter.saturating_add(count as u64);
        if end > REJECT_AFTER_MESSAGES {
            return None;
        }
        let counter = std::mem::replace(&mut self.counter, end);
        Some(Sender { key: Some(key), remote_index: self.remote_index, counter })
    }

    /// See `Kernel.seal_burst`.  None where the output is too small for them.
    pub fn seal(&mut self, packets: &[SuperPacket], mtu: usize, out: &mut Output) -> Option<()> {
        let Some(key) = self.key.as_ref() else { return Some(()) };
        let mut counter = self.counter;
        let count: usize = packets.iter().map(SuperPacket::segments).sum();
        let end = counter.saturating_add(count as u64);
        if end > REJECT_AFTER_MESSAGES {
            return Some(());
        }
        self.counter = end; // before anything is sealed: no failure may make a nonce be used again
        for packet in packets {
            let mut pieces = Pieces { pieces: &packet.pieces, at: 0 };
            let mut left = packet.payload();
            let mut template = Template::new(packet);
            loop {
                let size = if packet.mss == 0 { left } else { left.min(packet.mss) };
                left -= size;
                let length = packet.header.len() + size;
                let padded = padded_size(length, mtu);
                let datagram = out.datagram(padded + OVERHEAD_BYTES)?;
                datagram[..4].copy_from_slice(&TRANSPORT_DATA.to_le_bytes());
                datagram[4..8].copy_from_slice(&self.remote_index.to_le_bytes());
                datagram[8..HEADER_BYTES].copy_from_slice(&counter.to_le_bytes());
                let (plaintext, tag) = datagram[HEADER_BYTES..].split_at_mut(padded);
                let (head, rest) = plaintext.split_at_mut(packet.header.len());
                let (payload, padding) = rest.split_at_mut(size);
                pieces.copy_to(payload);
                padding.fill(0);
                head.copy_from_slice(packet.header);
                template.fill(head, payload, left == 0);
                let sealed = key.seal_in_place_separate_tag(nonce(counter), Aad::empty(), plaintext);
                tag.copy_from_slice(sealed.expect("far below the AEAD's limit").as_ref());
                counter += 1;
                if left == 0 {
                    break;
                }
            }
        }
        out.end_run();
        Some(())
    }
}

/// What is left of a packet's payload.
struct Pieces<'a> {
    pieces: &'a [&'a [u8]],
    at: usize, // in the first of them
}

impl Pieces<'_> {
    fn copy_to(&mut self, mut room: &mut [u8]) {
        while !room.is_empty() {
            let piece = &self.pieces[0][self.at..];
            let size = piece.len().min(room.len());
            let (here, behind) = room.split_at_mut(size);
            here.copy_from_slice(&piece[..size]);
            room = behind;
            self.at += size;
            if self.at == self.pieces[0].len() {
                (self.pieces, self.at) = (&self.pieces[1..], 0);
            }
        }
    }
}

/// What segments of a super-packet share, summed up, and what differs.  A finished packet has none.
struct Template {
    version: u8, // 0: nothing is to be filled in
    ident: u16,
    seq: u32,
    ip_sum: u64,
    tcp_sum: u64,
}

impl Template {
    fn new(packet: &SuperPacket) -> Self {
        let mut template = Template { version: 0, ident: 0, seq: 0, ip_sum: 0, tcp_sum: 0 };
        if packet.mss == 0 {
            return template;
        }
        let mut header = packet.header.to_vec();
        template.version = header[0] >> 4;
        let tcp = if template.version == 4 { 20 } else { 40 };
        template.seq = u32::from_be_bytes(header[tcp + 4..tcp + 8].try_into().unwrap());
        // Without what differs: length, ID and checksum; sequence number, flags and checksum.
        if template.version == 4 {
            template.ident = word(&header, 4);
            for at in [2..6, 10..12] {
                header[at].fill(0);
            }
            template.ip_sum = u64::from(sum(&header[..20]));
        }
        for at in [tcp + 4..tcp + 8, tcp + 13..tcp + 14, tcp + 16..tcp + 18] {
            header[at].fill(0);
        }
        let length = header.len() - tcp;
        template.tcp_sum = u64::from(sum(&header[tcp..])) + pseudo(addresses(&header, template.version), length, TCP);
        template
    }

    /// Write what differs into the next segment's header.
    fn fill(&mut self, header: &mut [u8], payload: &[u8], last: bool) {
        let tcp = match self.version {
            4 => 20,
            6 => 40,
            _ => return,
        };
        let length = header.len() + payload.len();
        if self.version == 4 {
            let checksum = !fold(self.ip_sum + length as u64 + u64::from(self.ident));
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            header[4..6].copy_from_slice(&self.ident.to_be_bytes());
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            self.ident = self.ident.wrapping_add(1);
        } else {
            header[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        }
        if !last {
            header[tcp + 13] &= !FIN_OR_PSH;
        }
        let seq = self.seq;
        let differs = u64::from(seq >> 16) + u64::from(seq & 0xffff) + u64::from(header[tcp + 13]);
        let checksum = !fold(self.tcp_sum + payload.len() as u64 + differs + u64::from(sum(payload)));
        header[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
        header[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
        self.seq = seq.wrapping_add(payload.len() as u32);
    }
}
