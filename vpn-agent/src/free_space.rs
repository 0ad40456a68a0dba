//! The free part of an address pool of either family, for subnets of any length.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

/// Free aligned blocks, split in halves as needed: each block is as large as it can be.
pub struct FreeSpace {
    /// First addresses of the free blocks, by prefix length. All are of the pool's family.
    blocks: BTreeMap<u8, BTreeSet<IpAddr>>,
}

impl FreeSpace {
    /// All of `pool`, which has no host bits.
    #[must_use]
    pub fn new(pool: IpNet) -> Self {
        Self { blocks: BTreeMap::from([(pool.prefix_len(), BTreeSet::from([pool.network()]))]) }
    }

    /// Takes `subnet` out. False, and nothing done, if it is not wholly free; a subnet of the other family is not.
    pub fn reserve(&mut self, subnet: IpNet) -> bool {
        let around = (0..=subnet.prefix_len()).rev().find_map(|length| {
            let block = supernet(subnet, length);
            self.blocks.get(&length)?.contains(&block.network()).then_some(block)
        });
        let Some(block) = around else { return false };
        self.take(block, subnet);
        true
    }

    /// Takes a subnet of this prefix length out of the smallest block that has room, the lowest of those. None if there
    /// is no such block, or no such length in the pool's family.
    pub fn allocate(&mut self, length: u8) -> Option<IpNet> {
        let (block_length, base) = self
            .blocks
            .range(..=length)
            .rev()
            .find_map(|(block_length, bases)| Some((*block_length, *bases.first()?)))?;
        let subnet = IpNet::new(base, length).ok()?;
        self.take(IpNet::new_assert(base, block_length), subnet);
        Some(subnet)
    }

    /// Removes the free `block` and returns what is left of it without `subnet`: the other half, of each halving.
    fn take(&mut self, block: IpNet, subnet: IpNet) {
        if let Some(bases) = self.blocks.get_mut(&block.prefix_len()) {
            bases.remove(&block.network());
        }
        for length in block.prefix_len() + 1..=subnet.prefix_len() {
            self.blocks.entry(length).or_default().insert(other_half(supernet(subnet, length)));
        }
    }
}

/// The subnet of this length that holds `subnet`, whose own length is at least that.
fn supernet(subnet: IpNet, length: u8) -> IpNet {
    IpNet::new_assert(subnet.network(), length).trunc()
}

/// The first address of the block that was one with `block` before they were halved. The length is not zero.
fn other_half(block: IpNet) -> IpAddr {
    let last_bit = block.max_prefix_len() - block.prefix_len();
    match block.network() {
        IpAddr::V4(base) => IpAddr::V4((base.to_bits() ^ (1 << last_bit)).into()),
        IpAddr::V6(base) => IpAddr::V6((base.to_bits() ^ (1 << last_bit)).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn net(text: &str) -> IpNet {
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
        assert_eq!(space.allocate(33), None, "no such length");

        let mut space = FreeSpace::new(net("fd00::/24"));
        assert_eq!(space.allocate(64), Some(net("fd00::/64")));
        assert_eq!(space.allocate(32), Some(net("fd00:1::/32")));
        assert_eq!(space.allocate(128), Some(net("fd00:0:0:1::/128")));
        assert_eq!(space.allocate(64), Some(net("fd00:0:0:2::/64")), "fd00:0:0:1::/64 is no longer whole");
    }

    #[test]
    fn only_what_is_free_can_be_reserved() {
        let mut space = FreeSpace::new(net("10.0.0.0/16"));
        assert!(space.reserve(net("10.0.3.0/24")));
        for taken in ["10.0.3.0/24", "10.0.3.0/25", "10.0.2.0/23", "10.1.0.0/24", "10.0.0.0/15", "a00::/24"] {
            assert!(!space.reserve(net(taken)), "{taken}");
        }
        assert!(space.reserve(net("10.0.2.0/24")));
    }

    proptest! {
        #[test]
        fn a_bitmap_agrees(requests in vec((any::<bool>(), 20..=26_u8, any::<u8>()), 1..80)) {
            // The same blocks at the same places of a pool of either family, in units of the smallest asked for.
            for (pool, longer) in [(net("10.0.0.0/20"), 0), (net("fd00:0:0:a::/64"), 44)] {
                let mut space = FreeSpace::new(pool);
                let unit = u32::from(pool.max_prefix_len() - 26 - longer);
                // One entry for each unit.
                let mut taken = [false; 64];
                for (fixed, length, at) in &requests {
                    let size = 1_usize << (26 - length);
                    let free = |start: usize, taken: &[bool; 64]| !taken[start..start + size].contains(&true);
                    let start = if *fixed {
                        let start = usize::from(*at) % (64 / size) * size;
                        let base = bits(pool.network()) + ((start as u128) << unit);
                        let subnet = IpNet::new_assert(address(pool, base), length + longer);
                        prop_assert_eq!(space.reserve(subnet), free(start, &taken));
                        free(start, &taken).then_some(start)
                    } else {
                        let found = space.allocate(length + longer);
                        let possible = (0..64).step_by(size).any(|start| free(start, &taken));
                        prop_assert_eq!(found.is_some(), possible, "/{}", length);
                        found.map(|subnet| ((bits(subnet.network()) - bits(pool.network())) >> unit) as usize)
                    };
                    if let Some(start) = start {
                        prop_assert!(free(start, &taken), "given twice");
                        taken[start..start + size].fill(true);
                    }
                }
            }
        }
    }

    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    /// The address of these bits in the family of `pool`.
    fn address(pool: IpNet, bits: u128) -> IpAddr {
        match pool {
            IpNet::V4(_) => IpAddr::V4((bits as u32).into()),
            IpNet::V6(_) => IpAddr::V6(bits.into()),
        }
    }
}
