//! The replay window.  Read RFC 6479; sizes as in the Linux kernel's WireGuard.

const WORD_BITS: u64 = 64;
const RING_WORDS: usize = 128;
/// One word of the ring is always being refilled.
const WINDOW: u64 = WORD_BITS * RING_WORDS as u64 - WORD_BITS;

/// Which counters have been seen.  Ask only after the packet was authenticated.
pub struct ReplayWindow {
    next: u64, // one above the highest counter accepted
    ring: Box<[u64; RING_WORDS]>,
}

impl ReplayWindow {
    pub fn new() -> Self {
        ReplayWindow { next: 0, ring: Box::new([0; RING_WORDS]) }
    }

    /// Mark `counter`, which is below `u64::MAX`, as seen; false if it was before or is too old to know.
    pub fn accept(&mut self, counter: u64) -> bool {
        let word = counter / WORD_BITS;
        if counter >= self.next {
            let stale = (word + 1).saturating_sub(self.next.div_ceil(WORD_BITS)).min(RING_WORDS as u64);
            for number in word + 1 - stale..=word {
                self.ring[number as usize % RING_WORDS] = 0;
            }
            self.next = counter + 1;
        } else if counter + WINDOW < self.next {
            return false;
        }
        let entry = &mut self.ring[word as usize % RING_WORDS];
        let bit = 1 << (counter % WORD_BITS);
        let fresh = *entry & bit == 0;
        *entry |= bit;
        fresh
    }
}
