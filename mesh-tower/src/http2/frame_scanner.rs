//! Finds frames in the bytes of an HTTP/2 connection by their headers, RFC 9113 section 4.1.

/// Follows the frames of a connection from its first byte.
#[derive(Debug, Default)]
pub(super) struct FrameScanner {
    header: [u8; Self::HEADER_LEN],
    /// How many bytes of the header have been seen.
    seen: usize,
    /// How many bytes of the current frame's payload are to come.
    payload: usize,
}

impl FrameScanner {
    const HEADER_LEN: usize = 9;
    const GO_AWAY: u8 = 0x7;

    /// Whether the header of a GOAWAY frame ends in `bytes`, which are the next ones of the connection.
    pub(super) fn has_go_away(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_found = false;
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let taken = (Self::HEADER_LEN - self.seen).min(bytes.len());
            self.header[self.seen..self.seen + taken].copy_from_slice(&bytes[..taken]);
            self.seen += taken;
            bytes = &bytes[taken..];
            if self.seen == Self::HEADER_LEN {
                let [high, middle, low, kind, ..] = self.header;
                self.seen = 0;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                is_found |= kind == Self::GO_AWAY;
            }
        }
        is_found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn a_go_away_is_found_in_any_fragmentation_and_only_as_a_frame() {
        // The payload looks like the header of a GOAWAY frame.
        let before = [frame(4, &[]), frame(0, &frame(7, &[7; 300])), frame(1, &[7; 20])].concat();
        let bytes = [before.clone(), frame(7, &[0; 8]), frame(6, &[0; 8])].concat();
        for size in [1, 2, 7, 9, 10, 64, bytes.len()] {
            let mut scanner = FrameScanner::default();
            let mut position = 0;
            let mut found = Vec::new();
            for chunk in bytes.chunks(size) {
                position += chunk.len();
                if scanner.has_go_away(chunk) {
                    found.push(position);
                }
            }
            let end_of_header = before.len() + FrameScanner::HEADER_LEN;
            assert_eq!(found, [end_of_header.next_multiple_of(size).min(bytes.len())], "{size}");
        }
    }
}
