//! What one packet is, looked at by itself.

use crate::sums::{fold, pseudo, sum};

pub const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

// Row flags, as in packets.py
pub const CHECKSUM_OK: u8 = 1;
pub const PSH: u8 = 2;
pub const ECN_CE: u8 = 4;

pub const ACK_FLAG: u8 = 0x10;
pub const PSH_FLAG: u8 = 0x08;
const ECE_FLAG: u8 = 0x40; // a state, not an event (RFC 3168, 6.1.3): all segments of a super-packet have it or none

/// What a packet is dropped for.
pub type Reason = &'static str;

/// A packet that may stay, every checksum verified.
pub struct Packet {
    pub version: u8,
    /// Its length by the IP header.
    pub total: usize,
    /// Offset of the transport header; 0: none, or not the whole of it.
    pub transport: usize,
    /// Row flags.
    pub flags: u8,
    pub kind: Kind,
}

pub enum Kind {
    /// Data of a stream that may become part of a super-packet; both headers are so long.
    Segment {
        header: usize,
    },
    /// Of a stream, but to be seen by itself.
    Control,
    /// May belong to any flow: a fragment, or IPv4 options in the way.
    Opaque,
    Other,
}

pub fn word(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

/// Look at a plaintext with its padding.  `outer`: the datagram's ECN field.
pub fn examine(data: &[u8], outer: u8) -> Result<Packet, Reason> {
    let (version, transport, total, protocol, ecn) = parse(data)?;
    let mut flags = if ecn == CE { ECN_CE } else { 0 };
    if outer == CE {
        // RFC 6040, 4.2
        if ecn == 0 {
            return Err("congestion"); // its sender would not see a mark: only a loss tells it
        }
        flags = ECN_CE;
    }
    let mut kind = Kind::Other;
    if protocol == TCP && total >= transport + 20 {
        verify(data, version, transport, total, TCP).ok_or("tcp-checksum")?;
        flags |= CHECKSUM_OK;
        let (offset, bits) = (data[transport + 12], data[transport + 13]);
        let header = transport + usize::from(offset >> 4) * 4;
        kind = if version == 4 && transport != 20 {
            Kind::Opaque
        } else if bits & !(PSH_FLAG | ECE_FLAG) == ACK_FLAG
            && offset & 15 == 0
            && transport + 20 <= header
            && header < total
        {
            Kind::Segment { header }
        } else {
            Kind::Control
        };
        if bits & PSH_FLAG != 0 {
            flags |= PSH;
        }
    } else if protocol == UDP && total >= transport + 8 {
        if word(data, transport + 6) != 0 {
            verify(data, version, transport, total, UDP).ok_or("udp-checksum")?;
            flags |= CHECKSUM_OK;
        } else if version == 6 {
            return Err("udp-checksum"); // RFC 8200, 8.1: not optional there
        }
    } else if transport == 0 {
        kind = Kind::Opaque;
    }
    Ok(Packet { version, total, transport, flags, kind })
}

/// Version, transport offset, length by the IP header, protocol, ECN.
fn parse(data: &[u8]) -> Result<(u8, usize, usize, u8, u8), Reason> {
    match data[0] >> 4 {
        4 => {
            let header = usize::from(data[0] & 15) * 4;
            if data.len() < 20 || header < 20 {
                return Err("ip-length");
            }
            let total = usize::from(word(data, 2));
            if total < header || total > data.len() {
                return Err("ip-length");
            }
            if sum(&data[..header]) != 0xffff {
                return Err("ip-checksum");
            }
            let ecn = data[1] & 3;
            if word(data, 6) & 0x3fff != 0 {
                return Ok((4, 0, total, 0, ecn)); // more fragments, or an offset
            }
            Ok((4, header, total, data[9], ecn))
        }
        6 => {
            if data.len() < 40 {
                return Err("ip-length");
            }
            let total = 40 + usize::from(word(data, 4));
            if total > data.len() {
                return Err("ip-length");
            }
            let protocol = data[6];
            // Extension headers are for the stack to walk.
            let transport = if matches!(protocol, TCP | UDP | ICMPV6) { 40 } else { 0 };
            Ok((6, transport, total, protocol, data[1] >> 4 & 3))
        }
        _ => Err("ip-version"),
    }
}

pub fn addresses(data: &[u8], version: u8) -> &[u8] {
    if version == 4 { &data[12..20] } else { &data[8..40] }
}

fn verify(data: &[u8], version: u8, transport: usize, total: usize, protocol: u8) -> Option<()> {
    let covered = u64::from(sum(&data[transport..total]));
    let all = fold(covered + pseudo(addresses(data, version), total - transport, protocol));
    (all == 0xffff).then_some(())
}

// --- congestion marks: RFC 6040, 4.2, and ecn.py ---

const CE: u8 = 3;

/// What the outer field says beyond the inner one, into the packet's header; drops are the caller's.
pub fn decapsulate(packet: &mut [u8], outer: u8) {
    let version_4 = packet[0] < 0x50;
    let at = if version_4 { 0 } else { 4 };
    let inner = packet[1] >> at & 3;
    if inner == 0 || inner == CE || !matches!(outer, 1 | CE) {
        return;
    }
    let old = word(packet, 0);
    packet[1] = packet[1] & !(3 << at) | outer << at;
    if version_4 {
        // RFC 1624, eqn 3
        let sum = u64::from(!word(packet, 10)) + u64::from(!old) + u64::from(word(packet, 0));
        let checksum = !fold(sum);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}
