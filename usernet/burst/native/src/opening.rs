//! Opening a burst: authenticate, replay window, then `flows`.  The WireGuard paper, 5.4.6; RFC 6479.

use ring::aead::{Aad, LessSafeKey, Tag};

use crate::flows::{Flows, Row};
use crate::packet::{Reason, examine};
use crate::replay::ReplayWindow;
use crate::{HEADER_BYTES, MAX_DATAGRAM, OVERHEAD_BYTES, REJECT_AFTER_MESSAGES, TAG_BYTES, TRANSPORT_DATA, nonce};

/// One direction of a session.  A wiped one has no key.
pub struct Receiver {
    pub key: Option<LessSafeKey>,
    pub local_index: u32,
    pub window: ReplayWindow,
}

/// What came of a burst: the fields of `Opened`, the rows, and a reason for each packet that was dropped.
#[derive(Default)]
pub struct Outcome {
    pub datagrams: usize,
    pub authentic: usize,
    pub authentic_bytes: usize,
    pub data: usize,
    pub rows: Vec<Row>,
    pub drops: Vec<Reason>,
}

impl Receiver {
    /// See `Kernel.open_burst`.  `outer`: the ECN field that the datagrams came with; rows begin at `used` of `out`.
    ///
    /// Each ciphertext is copied once and decrypted there, if the guess is right that it continues the last flow.
    pub fn open(
        &mut self,
        datagrams: &[&[u8]],
        outer: u8,
        out: &mut [u8],
        used: usize,
        scratch: &mut [u8; MAX_DATAGRAM],
    ) -> Outcome {
        let mut flows = Flows::new(out, used, outer, datagrams.len() > 1);
        let mut outcome = Outcome::default();
        for datagram in datagrams {
            let Some(counter) = self.counter_of(datagram) else { break };
            outcome.datagrams += 1;
            if !(OVERHEAD_BYTES..=MAX_DATAGRAM).contains(&datagram.len()) {
                outcome.drops.push("length");
                continue;
            }
            let (ciphertext, tag) = datagram[HEADER_BYTES..].split_at(datagram.len() - OVERHEAD_BYTES);
            let length = ciphertext.len();
            let guess = flows.guess(length);
            let plaintext = match &guess {
                Some(guess) => flows.plaintext(guess),
                None => &mut scratch[..length],
            };
            plaintext.copy_from_slice(ciphertext);
            if let Err(reason) = self.accept(counter, tag, plaintext) {
                outcome.drops.push(reason);
                if let Some(guess) = &guess {
                    flows.uncover(guess);
                }
                continue;
            }
            outcome.authentic += 1;
            outcome.authentic_bytes += datagram.len();
            if length == 0 {
                continue; // a keepalive
            }
            outcome.data += 1;
            let packet = examine(plaintext, outer);
            if let Some(guess) = &guess {
                if packet.as_ref().is_ok_and(|packet| flows.confirm(guess, packet)) {
                    continue;
                }
                scratch[..length].copy_from_slice(flows.plaintext(guess));
                flows.uncover(guess);
            }
            if let Err(reason) = packet.and_then(|packet| flows.place(&scratch[..length], &packet)) {
                outcome.drops.push(reason);
            }
        }
        flows.flush();
        outcome.rows = flows.rows;
        outcome
    }

    /// The counter, if this is transport data for us.
    fn counter_of(&self, datagram: &[u8]) -> Option<u64> {
        let header: &[u8; HEADER_BYTES] = datagram.first_chunk()?;
        let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
        let index = u32::from_le_bytes(header[4..8].try_into().unwrap());
        let counter = u64::from_le_bytes(header[8..].try_into().unwrap());
        (kind == TRANSPORT_DATA && index == self.local_index).then_some(counter)
    }

    /// Decrypt in place what is authentic and new.
    fn accept(&mut self, counter: u64, tag: &[u8], data: &mut [u8]) -> Result<(), Reason> {
        let tag: [u8; TAG_BYTES] = tag.try_into().unwrap();
        let key = self.key.as_ref().ok_or("authentication")?;
        key.open_in_place_separate_tag(nonce(counter), Aad::empty(), Tag::from(tag), data, 0..)
            .map_err(|_| "authentication")?;
        if counter >= REJECT_AFTER_MESSAGES {
            return Err("counter-limit");
        }
        if self.window.accept(counter) { Ok(()) } else { Err("replay") }
    }
}
