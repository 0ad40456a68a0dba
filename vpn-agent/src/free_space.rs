//! The free part of an address pool, for subnets of any length.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

/// Free aligned blocks, split in halves as needed: each block is as large as it can be.
pub struct FreeSpace {
    /// First addresses of the free blocks, by prefix length.
    blocks: BTreeMap<u8, BTreeSet<u32>>,
}

impl FreeSpace {
    /// All of `pool`, which has no host bits.
    #[must_use]
    pub fn new(pool: Ipv4Net) -> Self {
        let whole = BTreeSet::from([pool.network().to_bits()]);
        Self { blocks: BTreeMap::from([(pool.prefix_len(), whole)]) }
    }

    /// Takes `subnet` out. False, and nothing done, if it is not wholly free.
    pub fn reserve(&mut self, subnet: Ipv4Net) -> bool {
        let around = (0..=subnet.prefix_len()).rev().find_map(|length| {
            let block = supernet(subnet, length);
            self.blocks.get(&length)?.contains(&block.network().to_bits()).then_some(block)
        });
        let Some(block) = around else { return false };
        self.take(block, subnet);
        true
    }

    /// Takes a subnet of this prefix length out of the smallest block that has room, the lowest of those.
    pub fn allocate(&mut self, length: u8) -> Option<Ipv4Net> {
        let (block_length, base) = self
            .blocks
            .range(..=length)
            .rev()
            .find_map(|(block_length, bases)| Some((*block_length, *bases.first()?)))?;
        let block = Ipv4Net::new_assert(base.into(), block_length);
        let subnet = Ipv4Net::new_assert(base.into(), length);
        self.take(block, subnet);
        Some(subnet)
    }

    /// Removes the free `block` and returns what is left of it without `subnet`: the other half, of each halving.
    fn take(&mut self, block: Ipv4Net, subnet: Ipv4Net) {
        if let Some(bases) = self.blocks.get_mut(&block.prefix_len()) {
            bases.remove(&block.network().to_bits());
        }
        for length in block.prefix_len() + 1..=subnet.prefix_len() {
            let half = supernet(subnet, length).network().to_bits();
            self.blocks.entry(length).or_default().insert(half ^ (1 << (32 - length)));
        }
    }
}

/// The subnet of this length that holds `subnet`, whose own length is at least that.
fn supernet(subnet: Ipv4Net, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(subnet.network(), length).trunc()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn the_smallest_hole_is_filled_first() {
        let mut space = FreeSpace::new(net("10.0.0.0/16"));
        assert_eq!(space.allocate(24), Some(net("10.0.0.0/24")));
        assert_eq!(space.allocate(17), Some(net("10.0.128.0/17")));
        assert_eq!(space.allocate(25), Some(net("10.0.1.0/25")));
        assert_eq!(space.allocate(24), Some(net("10.0.2.0/24")), "10.0.1.0/24 is no longer whole");
        assert_eq!(space.allocate(17), None);
        assert_eq!(space.allocate(15), None, "larger than the pool");
    }

    #[test]
    fn only_what_is_free_can_be_reserved() {
        let mut space = FreeSpace::new(net("10.0.0.0/16"));
        assert!(space.reserve(net("10.0.3.0/24")));
        for taken in ["10.0.3.0/24", "10.0.3.0/25", "10.0.2.0/23", "10.1.0.0/24", "10.0.0.0/15"] {
            assert!(!space.reserve(net(taken)), "{taken}");
        }
        assert!(space.reserve(net("10.0.2.0/24")));
    }

    proptest! {
        #[test]
        fn a_bitmap_agrees(requests in vec((any::<bool>(), 20..=26_u8, any::<u8>()), 1..80)) {
            let pool = net("10.0.0.0/20");
            let mut space = FreeSpace::new(pool);
            // One entry for each /26 of the pool, which is the smallest asked for.
            let mut taken = [false; 64];
            for (fixed, length, at) in requests {
                let size = 1_usize << (26 - length);
                let free = |start: usize, taken: &[bool; 64]| !taken[start..start + size].contains(&true);
                let start = if fixed {
                    let start = usize::from(at) % (64 / size) * size;
                    let subnet = Ipv4Net::new_assert((pool.network().to_bits() + 64 * start as u32).into(), length);
                    prop_assert_eq!(space.reserve(subnet), free(start, &taken));
                    free(start, &taken).then_some(start)
                } else {
                    let found = space.allocate(length);
                    let possible = (0..64).step_by(size).any(|start| free(start, &taken));
                    prop_assert_eq!(found.is_some(), possible, "/{}", length);
                    found.map(|subnet| (subnet.network().to_bits() - pool.network().to_bits()) as usize / 64)
                };
                if let Some(start) = start {
                    prop_assert!(free(start, &taken), "given twice");
                    taken[start..start + size].fill(true);
                }
            }
        }
    }
}
