//! Keys of the map SERVICES: what users may reach on the gateway itself. Its values are route ids (`u32`), which the
//! agent gives by counting.

use crate::{Address, shared};

/// One service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct ServiceKey {
    /// An address of the gateway.
    pub address: Address,
    /// Port, network byte order; zero for ICMP echo.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always zero: the key is compared byte by byte.
    pub reserved: u8,
}

shared!(ServiceKey: 16 + 2 + 1 + 1);
