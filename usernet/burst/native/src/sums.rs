//! The Internet checksum (RFC 1071).

/// One's complement sum of big-endian 16-bit words, folded to 16 bits; an odd last byte is padded with a zero.
///
/// Adds eight bytes at a time in the machine's own order and swaps once at the end (RFC 1071, 2 B).
pub fn sum(data: &[u8]) -> u16 {
    let mut total = 0u64;
    let mut chunks = data.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().unwrap());
        total += (word & 0xffff_ffff) + (word >> 32); // 33 bits at most: no overflow below 16 GiB
    }
    let mut last = [0; 8];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    let word = u64::from_le_bytes(last);
    total += (word & 0xffff_ffff) + (word >> 32);
    fold(total).swap_bytes()
}

/// Add up to 16 bits with the carries brought round.
pub fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// The sum of a pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1): addresses as they lie in the packet, length, protocol.
pub fn pseudo(addresses: &[u8], length: usize, protocol: u8) -> u64 {
    u64::from(sum(addresses)) + length as u64 + u64::from(protocol)
}
