//! `[pools]`: the ranges that addresses come from.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::{problem::Check, special_ranges, state::State};

/// `[pools]`: where addresses come from. Without host bits, disjoint, and apart from every plant's real subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pools {
    /// Tunnel IPs of certificates. The first host address is the gateway's.
    pub tunnel: Ipv4Net,
    /// What a plant sees instead of the tunnel pool: the same host bits, in this region's prefix.
    pub source: Ipv4Net,
    /// Virtual subnets of plants.
    #[serde(rename = "virtual")]
    pub virtual_: Ipv4Net,
    /// IPv6 tunnel addresses, each with the host number that the IPv4 one has in [`Self::tunnel`].
    pub tunnel6: Ipv6Net,
    /// What a plant sees instead of the IPv6 tunnel pool: the same host bits, in this region's prefix.
    pub source6: Ipv6Net,
    /// Virtual subnets of plants' IPv6 subnets.
    pub virtual6: Ipv6Net,
}

/// The IPv6 ones are unique local addresses (RFC 4193).
impl Default for Pools {
    fn default() -> Self {
        let v6 = |first: [u16; 4], length| {
            let [a, b, c, d] = first;
            Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length)
        };
        Self {
            tunnel: Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 16),
            source: Ipv4Net::new_assert(Ipv4Addr::new(100, 80, 0, 0), 16),
            virtual_: Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 9),
            tunnel6: v6([0xfd76, 0x706e, 0x6777, 0], 64),
            source6: v6([0xfd76, 0x706e, 0x6777, 1], 64),
            virtual6: v6([0xfd76, 0x7600, 0, 0], 24),
        }
    }
}

impl Pools {
    /// The gateway's own address towards users: the first host address of the tunnel pool.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.tunnel.network().to_bits() | 1)
    }

    /// The gateway's own IPv6 address towards users.
    #[must_use]
    pub fn gateway6(&self) -> Ipv6Addr {
        self.tunnel6_of(self.gateway())
    }

    /// Which address of the tunnel pool it is, counted from its first one.
    #[must_use]
    pub fn host_number(&self, address: Ipv4Addr) -> u32 {
        address.to_bits() & self.tunnel.hostmask().to_bits()
    }

    /// The address of the tunnel pool with this number.
    #[must_use]
    pub fn tunnel_of(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.tunnel.network().to_bits() | number)
    }

    /// How many addresses the tunnel pool has, all in all.
    #[must_use]
    pub const fn tunnel_addresses(&self) -> u32 {
        1 << (32 - self.tunnel.prefix_len())
    }

    /// The IPv6 tunnel address that goes with an IPv4 one: the same host number in the IPv6 tunnel pool. So it is as
    /// unique, and stays as long as both pools begin where they do.
    #[must_use]
    pub fn tunnel6_of(&self, address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.tunnel6.network().to_bits() | u128::from(self.host_number(address)))
    }

    /// Whether a certificate may have `address`: inside the tunnel pool, and none of the network, the gateway and the
    /// broadcast.
    #[must_use]
    pub fn is_for_certificates(&self, address: Ipv4Addr) -> bool {
        self.tunnel.contains(&address)
            && ![self.tunnel.network(), self.gateway(), self.tunnel.broadcast()].contains(&address)
    }

    /// Where virtual subnets for subnets of the family of `real` come from, with the name of the setting.
    #[must_use]
    pub const fn virtual_for(&self, real: &IpNet) -> (&'static str, IpNet) {
        match real {
            IpNet::V4(_) => ("pools.virtual", IpNet::V4(self.virtual_)),
            IpNet::V6(_) => ("pools.virtual6", IpNet::V6(self.virtual6)),
        }
    }

    /// All pools, with the names of their settings.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, IpNet); 6] {
        [
            ("pools.tunnel", IpNet::V4(self.tunnel)),
            ("pools.source", IpNet::V4(self.source)),
            ("pools.virtual", IpNet::V4(self.virtual_)),
            ("pools.tunnel6", IpNet::V6(self.tunnel6)),
            ("pools.source6", IpNet::V6(self.source6)),
            ("pools.virtual6", IpNet::V6(self.virtual6)),
        ]
    }

    /// No plant may use an address of a pool: one problem for each plant's subnet and pool that overlap.
    pub(crate) fn check_state(&self, state: &State, check: &mut Check) {
        for (id, plant) in &state.plants {
            for subnet in &plant.subnets {
                for (name, pool) in self.named() {
                    check.that(!overlap(subnet, &pool), name, || {
                        format!(
                            "subnet {subnet} of plant {id} overlaps {pool}; move the pool in the agent's configuration \
                             to a range that no plant uses"
                        )
                    });
                }
            }
        }
    }

    /// What is wrong with the pools by themselves.
    pub(crate) fn check(&self, check: &mut Check) {
        let pools = self.named();
        for ((name, pool), lengths) in pools.iter().zip([8..=29, 8..=29, 8..=32, 8..=125, 8..=125, 8..=128]) {
            check.that(pool.trunc() == *pool, name, || format!("{pool} has host bits set; use {}", pool.trunc()));
            check.that(lengths.contains(&pool.prefix_len()), name, || {
                format!("{pool} has prefix length {}; use {} to {}", pool.prefix_len(), lengths.start(), lengths.end())
            });
            if let Some(purpose) = special_ranges::purpose(pool) {
                check.that(false, name, || format!("{pool} is in the {purpose} range; use a private range"));
            }
        }
        for (at, (name, pool)) in pools.iter().enumerate() {
            for (other, before) in &pools[..at] {
                check.that(!overlap(pool, before), name, || {
                    format!("{pool} overlaps {other}, which is {before}; the pools must be disjoint")
                });
            }
        }
        check.that(self.source.prefix_len() == self.tunnel.prefix_len(), "pools.source", || {
            format!("{} must be as long as pools.tunnel, which is {}: host bits are kept", self.source, self.tunnel)
        });
        check.that(self.source6.prefix_len() == self.tunnel6.prefix_len(), "pools.source6", || {
            format!("{} must be as long as pools.tunnel6, which is {}: host bits are kept", self.source6, self.tunnel6)
        });
        let host_bits = 32 - self.tunnel.prefix_len();
        check.that(128 - self.tunnel6.prefix_len() >= host_bits, "pools.tunnel6", || {
            format!(
                "{} has too few host bits for the host numbers of pools.tunnel, which is {}; use a prefix length of \
                 at most {}",
                self.tunnel6,
                self.tunnel,
                128 - host_bits
            )
        });
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn no_plant_may_use_an_address_of_a_pool() {
        let mut document = example::json();
        document["plants"][0]["subnets"] = serde_json::json!(["192.168.1.0/24", "2001:db8:1::/64"]);
        let state = example::parse(&document);
        let check = |pools: Pools| {
            let mut check = Check::default();
            pools.check_state(&state, &mut check);
            check.end()
        };
        assert_eq!(check(Pools::default()), Ok(()));
        let problems = check(Pools { virtual_: "192.168.0.0/16".parse().unwrap(), ..Pools::default() }).unwrap_err();
        assert_eq!(problems.list().len(), 2, "one for each plant: {problems}");
        assert!(problems.to_string().starts_with("pools.virtual: subnet 192.168.1.0/24 of plant north"), "{problems}");
        let problems = check(Pools { source6: "2001:db8:1::/80".parse().unwrap(), ..Pools::default() }).unwrap_err();
        assert!(problems.to_string().starts_with("pools.source6: subnet 2001:db8:1::/64 of plant north"), "{problems}");
        assert_eq!(problems.list().len(), 1, "{problems}");
    }

    #[test]
    fn the_ends_of_the_tunnel_pool_are_not_for_certificates() {
        let pools = Pools { tunnel: "10.1.2.0/29".parse().unwrap(), ..Pools::default() };
        let usable: Vec<_> = (0..=9).filter(|at| pools.is_for_certificates(Ipv4Addr::new(10, 1, 2, *at))).collect();
        assert_eq!(usable, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_tunnel_address_is_its_number_in_the_pool() {
        let pools = Pools { tunnel: "10.1.2.8/29".parse().unwrap(), ..Pools::default() };
        assert_eq!(pools.tunnel_addresses(), 8);
        for (number, address) in (0..8).zip(8..16).map(|(number, last)| (number, Ipv4Addr::new(10, 1, 2, last))) {
            assert_eq!((pools.host_number(address), pools.tunnel_of(number)), (number, address));
        }
    }

    #[test]
    fn an_ipv6_tunnel_address_has_the_host_number_of_the_ipv4_one() {
        let of = |pools: &Pools, address: &str| pools.tunnel6_of(address.parse().unwrap()).to_string();
        let pools = Pools::default();
        assert_eq!(pools.gateway6().to_string(), "fd76:706e:6777::1");
        assert_eq!(of(&pools, "100.64.0.2"), "fd76:706e:6777::2");
        assert_eq!(of(&pools, "100.64.255.254"), "fd76:706e:6777::fffe");
        let wider = Pools { tunnel: "100.64.0.0/10".parse().unwrap(), ..pools };
        assert_eq!(of(&wider, "100.64.0.2"), "fd76:706e:6777::2", "a pool that grows in place changes nothing");
        assert_eq!(of(&wider, "100.127.255.254"), "fd76:706e:6777::3f:fffe");
        let narrow = Pools {
            tunnel: "100.64.0.8/29".parse().unwrap(),
            tunnel6: "fd00::10/125".parse().unwrap(),
            ..Pools::default()
        };
        assert_eq!(of(&narrow, "100.64.0.14"), "fd00::16");
    }
}
