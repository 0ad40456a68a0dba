//! The packet's bytes. The only file that does arithmetic on packet pointers.

use aya_ebpf::{helpers::bpf_xdp_adjust_head, programs::XdpContext};
use network_types::{icmp::Icmpv4Hdr, ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};
use vpn_ebpf_common::Verdict;

/// Length of an Ethernet header.
const ETHERNET: i32 = 14;

/// EtherType of IPv4.
const IPV4: [u8; 2] = 0x0800_u16.to_be_bytes();

/// A header that may be laid over packet bytes.
///
/// # Safety
/// The type is `repr(C)`, aligned to one byte, and every bit pattern is a valid value of it.
pub unsafe trait Header: Copy {}

// SAFETY: all of them are `repr(C)` structures of `u8` and `[u8; N]`.
unsafe impl Header for Ipv4Hdr {}
// SAFETY: as above.
unsafe impl Header for TcpHdr {}
// SAFETY: as above.
unsafe impl Header for UdpHdr {}
// SAFETY: as above.
unsafe impl Header for Icmpv4Hdr {}
// SAFETY: an array of bytes.
unsafe impl Header for [u8; 14] {}

/// The packet of one program run. On WireGuard and other layer-3 devices it starts at the IP header.
pub struct Frame {
    ctx: XdpContext,
}

impl Frame {
    #[inline(always)]
    pub fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }

    /// Length in bytes.
    #[inline(always)]
    pub fn len(&self) -> u64 {
        (self.ctx.data_end() - self.ctx.data()) as u64
    }

    /// Index of the interface that the packet came in by.
    #[inline(always)]
    pub fn ingress(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    /// The header at `offset`.
    #[inline(always)]
    pub fn header<T: Header>(&self, offset: usize) -> Result<&T, Verdict> {
        let at = self.bounded::<T>(offset)?;
        // SAFETY: `bounded` placed the whole of `T` inside the packet, and `T: Header` takes any bytes there.
        Ok(unsafe { &*(at as *const T) })
    }

    /// The header at `offset`, to be written.
    #[inline(always)]
    pub fn header_mut<T: Header>(&mut self, offset: usize) -> Result<&mut T, Verdict> {
        let at = self.bounded::<T>(offset)?;
        // SAFETY: as in `header`; `&mut self` makes this the only view of the packet.
        Ok(unsafe { &mut *(at as *mut T) })
    }

    /// Writes an Ethernet header with the EtherType of IPv4 in front of the packet, outside of it.
    ///
    /// Generic XDP compares bytes 12 to 14 of the packet before and after the program, as if they were an
    /// EtherType (`bpf_prog_run_generic_xdp` in net/core/dev.c). On a layer-3 device they are the first half of
    /// the IPv4 source address. When that changes, the kernel takes the protocol from the 14 bytes before the
    /// packet; without this they are rubbish and WireGuard refuses to send the packet.
    #[inline(always)]
    pub fn announce_ipv4(&mut self) -> Result<(), Verdict> {
        self.adjust_head(-ETHERNET)?;
        let ethernet = self.header_mut::<[u8; ETHERNET as usize]>(0)?;
        *ethernet = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, IPV4[0], IPV4[1]];
        self.adjust_head(ETHERNET)
    }

    /// Moves the packet's start. All headers read before are gone, which `&mut self` enforces.
    #[inline(always)]
    fn adjust_head(&mut self, by: i32) -> Result<(), Verdict> {
        // SAFETY: `ctx` is the kernel's context of this run; the helper checks the room itself.
        match unsafe { bpf_xdp_adjust_head(self.ctx.ctx, by) } {
            0 => Ok(()),
            _ => Err(Verdict::NoHeadroom),
        }
    }

    /// Address of the `T` at `offset`, after the comparison that the verifier looks for.
    #[inline(always)]
    fn bounded<T: Header>(&self, offset: usize) -> Result<usize, Verdict> {
        const { assert!(align_of::<T>() == 1) };
        let at = self.ctx.data() + offset;
        if at + size_of::<T>() > self.ctx.data_end() {
            return Err(Verdict::Truncated);
        }
        Ok(at)
    }
}
