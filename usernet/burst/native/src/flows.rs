//! Rows: packets laid out one behind the other in the burst's buffer, in-order TCP segments of a flow as one
//! super-packet.  The rules are those of flows.py, whose tests this passes, too.
//!
//! While several flows are open, each has a room of 64 KiB, so that payload is written to its place once.

use crate::packet::{Kind, PSH, PSH_FLAG, Packet, Reason, decapsulate, word};

const ROOM: usize = 65_536;
const MAX_TOTAL: usize = 65_535; // RFC 791, 3.1
const MAX_HEADERS: usize = 40 + 60;

pub struct Row {
    pub start: usize,
    pub length: usize,
    pub mss: usize,
    pub segments: usize,
    pub transport: usize,
    pub flags: u8,
}

/// A super-packet being put together, or a packet that stays by itself.
struct Pending {
    row: Row,
    version: u8,
    header: usize,            // length of both headers; 0: nothing can be added
    first: [u8; MAX_HEADERS], // those of the first segment
    next_seq: u32,
    room_end: usize,
}

impl Pending {
    fn end(&self) -> usize {
        self.row.start + self.row.length
    }

    fn is_open(&self) -> bool {
        self.header > 0
    }

    /// Addresses and ports are the same.
    fn is_flow_of(&self, data: &[u8], version: u8) -> bool {
        let name = if version == 4 { 12..24 } else { 8..44 };
        self.is_open() && self.version == version && self.first[name.clone()] == data[name]
    }

    /// Does this segment continue it?  What may differ: IPv4's ID and checksum; PSH and the TCP checksum; lengths.
    fn is_continued_by(&self, data: &[u8], packet: &Packet, header: usize) -> bool {
        let payload = packet.total - header;
        if header != self.header || packet.version != self.version || payload > self.row.mss {
            return false;
        }
        let (ours, theirs) = (&self.first[..header], &data[..header]);
        let tcp = packet.transport;
        let ip_same = if self.version == 4 {
            ours[..2] == theirs[..2] && ours[6..10] == theirs[6..10] && ours[12..24] == theirs[12..24]
        } else {
            ours[..4] == theirs[..4] && ours[6..44] == theirs[6..44]
        };
        ip_same
            && sequence(theirs, tcp) == self.next_seq
            && ours[tcp + 8..tcp + 13] == theirs[tcp + 8..tcp + 13]
            && ours[tcp + 13] | PSH_FLAG == theirs[tcp + 13] | PSH_FLAG
            && ours[tcp + 14..tcp + 16] == theirs[tcp + 14..tcp + 16]
            && ours[tcp + 18..] == theirs[tcp + 18..]
            && self.end() + payload <= (self.row.start + MAX_TOTAL).min(self.room_end)
    }

    /// One more segment, whose payload lies at the end already.
    fn grow(&mut self, payload: usize, flags: u8) {
        self.row.length += payload;
        self.row.segments += 1;
        self.row.flags |= flags & PSH;
        self.next_seq = self.next_seq.wrapping_add(payload as u32);
    }
}

fn sequence(data: &[u8], tcp: usize) -> u32 {
    u32::from(word(data, tcp + 4)) << 16 | u32::from(word(data, tcp + 6))
}

/// Where a packet is expected to belong: behind the payload that the last one's flow has so far.
pub struct Guess {
    flow: usize,
    at: usize,
    length: usize,
    covered: [u8; MAX_HEADERS], // what its headers lie upon
}

pub struct Flows<'a> {
    out: &'a mut [u8],
    pub rows: Vec<Row>,
    pending: Vec<Pending>,  // in order of arrival
    last: Option<usize>,    // the one that the last packet went to, if open
    topmost: Option<usize>, // the flow whose room is the last one
    used: usize,
    top: usize,
    outer: u8,
    coalesce: bool,
}

impl<'a> Flows<'a> {
    /// Rows begin at `used`.
    pub fn new(out: &'a mut [u8], used: usize, outer: u8, coalesce: bool) -> Self {
        let (rows, pending) = (Vec::new(), Vec::new());
        Flows { out, rows, pending, last: None, topmost: None, used, top: used, outer, coalesce }
    }

    // --- a packet that is decrypted where it will stay ---

    /// Room for the next plaintext such that the payload of a segment continues the last flow.
    pub fn guess(&mut self, length: usize) -> Option<Guess> {
        let flow = self.last?;
        let pending = &self.pending[flow];
        let at = pending.end() - pending.header;
        if length <= pending.header || at + length > pending.room_end {
            return None;
        }
        let mut covered = [0; MAX_HEADERS];
        covered[..pending.header].copy_from_slice(&self.out[at..pending.end()]);
        Some(Guess { flow, at, length, covered })
    }

    pub fn plaintext(&mut self, guess: &Guess) -> &mut [u8] {
        &mut self.out[guess.at..guess.at + guess.length]
    }

    /// What the headers lay upon is as it was.
    pub fn uncover(&mut self, guess: &Guess) {
        let header = self.pending[guess.flow].header;
        self.out[guess.at..guess.at + header].copy_from_slice(&guess.covered[..header]);
    }

    /// Add the packet where it lies, if it belongs there.
    pub fn confirm(&mut self, guess: &Guess, packet: &Packet) -> bool {
        let Kind::Segment { header } = packet.kind else { return false };
        let data = &self.out[guess.at..guess.at + guess.length];
        if !self.pending[guess.flow].is_continued_by(data, packet, header) {
            return false;
        }
        self.uncover(guess);
        self.extend(guess.flow, packet.total - header, packet.flags);
        true
    }

    // --- a packet that lies elsewhere ---

    /// Take a packet; its payload is copied to its place.
    pub fn place(&mut self, data: &[u8], packet: &Packet) -> Result<(), Reason> {
        self.last = None;
        match packet.kind {
            Kind::Segment { header } if self.coalesce => return self.join(data, packet, header),
            Kind::Segment { .. } | Kind::Control => self.close_flow_of(data, packet.version),
            Kind::Opaque => self.close_all(),
            Kind::Other => {}
        }
        self.append(data, packet, 0)
    }

    fn join(&mut self, data: &[u8], packet: &Packet, header: usize) -> Result<(), Reason> {
        if let Some(flow) = self.flow_of(data, packet.version) {
            let pending = &self.pending[flow];
            if pending.is_continued_by(data, packet, header) {
                let end = pending.end();
                self.out[end..end + packet.total - header].copy_from_slice(&data[header..packet.total]);
                self.extend(flow, packet.total - header, packet.flags);
                return Ok(());
            }
            self.close(flow);
        }
        self.append(data, packet, header)?;
        self.last = self.topmost;
        Ok(())
    }

    fn extend(&mut self, flow: usize, payload: usize, flags: u8) {
        let pending = &mut self.pending[flow];
        pending.grow(payload, flags);
        let whole = payload == pending.row.mss;
        self.last = whole.then_some(flow);
        if !whole {
            self.close(flow); // a shorter one is the last
        }
    }

    /// Another row; with a `header`, a flow that is open.
    fn append(&mut self, data: &[u8], packet: &Packet, header: usize) -> Result<(), Reason> {
        let total = packet.total;
        let room = if header > 0 { ROOM } else { total };
        if self.top + room > self.out.len() {
            self.flush();
        }
        let start = self.top;
        if start + total > self.out.len() {
            return Err("burst-full");
        }
        self.out[start..start + total].copy_from_slice(&data[..total]);
        self.top = (start + room).min(self.out.len());
        self.topmost = (header > 0).then_some(self.pending.len());
        let mut first = [0; MAX_HEADERS];
        let mut next_seq = 0;
        if header > 0 {
            first[..header].copy_from_slice(&data[..header]);
            next_seq = sequence(data, packet.transport).wrapping_add((total - header) as u32);
        }
        let (mss, transport, flags) = (total - header, packet.transport, packet.flags);
        let row = Row { start, length: total, mss, segments: 1, transport, flags };
        self.pending.push(Pending { row, version: packet.version, header, first, next_seq, room_end: self.top });
        Ok(())
    }

    fn flow_of(&self, data: &[u8], version: u8) -> Option<usize> {
        self.pending.iter().position(|pending| pending.is_flow_of(data, version))
    }

    fn close_flow_of(&mut self, data: &[u8], version: u8) {
        if let Some(flow) = self.flow_of(data, version) {
            self.close(flow);
        }
    }

    fn close(&mut self, flow: usize) {
        self.pending[flow].header = 0;
        if self.topmost == Some(flow) {
            self.top = self.pending[flow].end();
        }
    }

    fn close_all(&mut self) {
        for flow in 0..self.pending.len() {
            if self.pending[flow].is_open() {
                self.close(flow);
            }
        }
    }

    /// Make rows of all there is, and leave no room between them.
    pub fn flush(&mut self) {
        for Pending { mut row, .. } in self.pending.drain(..) {
            if row.start != self.used {
                self.out.copy_within(row.start..row.start + row.length, self.used);
                row.start = self.used;
            }
            self.used += row.length;
            let packet = &mut self.out[row.start..self.used];
            if row.segments > 1 {
                if row.flags & PSH != 0 {
                    packet[row.transport + 13] |= PSH_FLAG;
                }
            } else {
                row.mss = 0;
            }
            if self.outer & 1 != 0 {
                decapsulate(packet, self.outer);
            }
            self.rows.push(row);
        }
        (self.last, self.topmost, self.top) = (None, None, self.used);
    }
}
