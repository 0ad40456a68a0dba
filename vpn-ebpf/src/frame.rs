//! The packet's bytes. The only file that makes pointers into packets of a classifier, and changes a packet's size.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::{
        bpf_csum_diff, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_tail,
        bpf_skb_pull_data, bpf_skb_vlan_pop,
    },
    programs::TcContext,
};
use vpn_ebpf_common::{Verdict, checksum::Difference, flow::Traffic};

use crate::header::{Header, half, set_half};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Bytes that have to lie in one piece: the longest headers that are read, in an ICMPv6 error with a quoted TCP header.
const HEADERS: u32 = 128;

/// Keeps offsets within what the verifier can follow; every offset in use is smaller.
const OFFSET_MASK: usize = 0xff;

/// The packet of one program run, without its link header.
pub struct Frame {
    ctx: TcContext,
    /// Bytes of link header in front.
    link: usize,
    /// Whether it came from a WireGuard tunnel.
    from_tunnel: bool,
}

impl Frame {
    /// `link` is 0 for layer-3 devices such as WireGuard, and [`ETHERNET`].
    #[inline(always)]
    pub fn new(ctx: TcContext, link: usize, from_tunnel: bool) -> Self {
        let frame = Self { ctx, link, from_tunnel };
        frame.pull(HEADERS);
        frame
    }

    /// Length of the IP packet in bytes; of all segments, if they were coalesced.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.ctx.len().wrapping_sub(self.link as u32)
    }

    /// What a packet counts as whose headers are not known.
    #[inline(always)]
    pub fn traffic(&self) -> Traffic {
        Traffic { packets: 1, bytes: u64::from(self.len()) }
    }

    /// Segments that were coalesced into this packet, and the payload bytes of each but the last; zero and zero for an
    /// ordinary packet. The first is zero as well if somebody outside this kernel has coalesced them, who is not trusted to
    /// count (`SKB_GSO_DODGY`).
    #[inline(always)]
    pub fn segments(&self) -> (u32, u32) {
        // SAFETY: the fields of the kernel's context of this run.
        unsafe { ((*self.ctx.skb.skb).gso_segs, (*self.ctx.skb.skb).gso_size) }
    }

    /// Index of the interface that the packet came in by.
    #[inline(always)]
    pub fn ingress(&self) -> u32 {
        // SAFETY: a field of the kernel's context of this run.
        unsafe { (*self.ctx.skb.skb).ifindex }
    }

    /// The EtherType, as the kernel knows it from the frame or from the tunnel.
    #[inline(always)]
    pub fn ether_type(&self) -> u16 {
        // SAFETY: a field of the kernel's context of this run, in network byte order.
        u16::from_be(unsafe { (*self.ctx.skb.skb).protocol } as u16)
    }

    /// Whether it came out of a tunnel, else off a wire.
    #[inline(always)]
    pub const fn is_from_tunnel(&self) -> bool {
        self.from_tunnel
    }

    /// Whether there may be bytes behind the IP packet that mean nothing: network cards fill short Ethernet frames up to 60
    /// bytes (IEEE 802.3, 3.2.8).
    #[inline(always)]
    pub fn may_be_padded(&self) -> bool {
        !self.from_tunnel && self.segments().1 == 0
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
        // SAFETY: as in `header`; `&mut self` makes this the only view of the packet. The kernel has made the packet's
        // head writable before the program started (`bpf_unclone_prologue` in net/core/filter.c).
        Ok(unsafe { &mut *(at as *mut T) })
    }

    /// Updates a TCP, UDP or ICMPv6 checksum; `pseudo` is what changed in the pseudo-header. The field may hold the sum of
    /// that alone: in a packet that the kernel has coalesced itself, or that another interface of this host has left for
    /// hardware to complete. Only the kernel knows, and asking it costs more than the update.
    #[inline(always)]
    pub fn update_checksum(&mut self, offset: usize, pseudo: Difference, is_udp: bool) -> Result<(), Verdict> {
        // A tunnel's packets were complete when they were encrypted.
        if self.from_tunnel && self.segments().1 == 0 {
            let check = self.header_mut::<[u8; 2]>(offset)?;
            let old = half::<0, _>(check);
            set_half::<0, _>(check, if is_udp { pseudo.apply_udp(old) } else { pseudo.apply(old) });
            return Ok(());
        }
        let mangled = if is_udp { BPF_F_MARK_MANGLED_0 } else { 0 };
        self.replace_checksum(offset, pseudo, u64::from(BPF_F_PSEUDO_HDR | mangled))
    }

    /// As [`Frame::update_checksum`], for changes in what follows the pseudo-header.
    #[inline(always)]
    pub fn update_checksum_of_content(&mut self, offset: usize, content: Difference) -> Result<(), Verdict> {
        self.replace_checksum(offset, content, 0)
    }

    #[inline(always)]
    fn replace_checksum(&mut self, offset: usize, difference: Difference, flags: u64) -> Result<(), Verdict> {
        let at = (self.link + offset) as u32;
        // SAFETY: the helper checks the offset itself; a field size of zero in the flags says that the last argument is a
        // difference. It moves the packet, which `&mut self` allows.
        match unsafe { bpf_l4_csum_replace(self.ctx.skb.skb, at, 0, u64::from(difference.wsum()), flags) } {
            0 => Ok(()),
            _ => Err(Verdict::NoMemory),
        }
    }

    /// Cuts the packet to its first `length` bytes, or adds as many zeros as it lacks.
    #[inline(always)]
    pub fn resize(&mut self, length: u32) -> Result<(), Verdict> {
        // SAFETY: the helper checks the length itself. It moves the packet, which `&mut self` allows.
        match unsafe { bpf_skb_change_tail(self.ctx.skb.skb, self.link as u32 + length, 0) } {
            0 => Ok(()),
            _ => Err(Verdict::NoMemory),
        }
    }

    /// Makes room for `bytes` in front of the IP packet, behind the link header.
    #[inline(always)]
    pub fn grow(&mut self, bytes: usize) -> Result<(), Verdict> {
        // SAFETY: the helper checks the size itself. It moves the packet, which `&mut self` allows.
        match unsafe { bpf_skb_adjust_room(self.ctx.skb.skb, bytes as i32, BPF_ADJ_ROOM_MAC, 0) } {
            0 => Ok(()),
            _ => Err(Verdict::NoMemory),
        }
    }

    /// Puts an empty Ethernet header in front, where there is none. `bpf_redirect_neigh` asks for one and fills in its
    /// own.
    #[inline(always)]
    pub fn become_ethernet(&mut self) -> Result<(), Verdict> {
        if self.link == ETHERNET {
            return Ok(());
        }
        // SAFETY: the helper checks the size itself. It moves the packet, which `&mut self` allows.
        match unsafe { bpf_skb_change_head(self.ctx.skb.skb, ETHERNET as u32, 0) } {
            0 => {
                self.link = ETHERNET;
                Ok(())
            }
            _ => Err(Verdict::NoMemory),
        }
    }

    /// Takes off the VLAN tag of a frame, which the kernel keeps beside the packet, and would write into the middle of it on a
    /// device without VLANs (`validate_xmit_vlan` in net/core/dev.c). A tag of VLAN 0 is only a priority, and stays until
    /// after this hook.
    #[inline(always)]
    pub fn drop_tag(&mut self) -> Result<(), Verdict> {
        // SAFETY: a field of the kernel's context of this run.
        if self.from_tunnel || unsafe { (*self.ctx.skb.skb).vlan_present } == 0 {
            return Ok(());
        }
        // SAFETY: the helper takes the context alone. It moves the packet, which `&mut self` allows.
        match unsafe { bpf_skb_vlan_pop(self.ctx.skb.skb) } {
            0 => Ok(()),
            _ => Err(Verdict::NoMemory),
        }
    }

    /// The sum of the first [`SUMMED`] bytes of the packet, in the form of [`Difference`]; zeros stand for what it lacks.
    #[inline(always)]
    pub fn sum(&mut self, length: u32) -> Result<Difference, Verdict> {
        // The kernel fills what it adds with zeros. One size that the verifier knows costs it less than all that could be.
        self.resize(SUMMED as u32)?;
        self.pull(SUMMED as u32);
        let start = self.bounded::<[u8; SUMMED]>(0)?;
        // SAFETY: `bounded` placed the bytes inside the packet.
        let sum = unsafe { bpf_csum_diff(ptr::null_mut(), 0, start as *mut u32, SUMMED as u32, 0) };
        self.resize(length)?;
        Ok(Difference::none().word(u32::MAX, sum as u32))
    }

    /// Sees to it that `bytes` of the IP packet, or all of it, lie in one piece. Best effort: who reads checks again.
    #[inline(always)]
    fn pull(&self, bytes: u32) {
        let wanted = self.link as u32 + bytes;
        let wanted = if wanted < self.ctx.len() { wanted } else { self.ctx.len() };
        if self.ctx.data() + wanted as usize > self.ctx.data_end() {
            // SAFETY: the helper checks the length itself; nothing read before is held.
            let _ = unsafe { bpf_skb_pull_data(self.ctx.skb.skb, wanted) };
        }
    }

    /// Address of the `T` at `offset`, after the comparison that the verifier looks for.
    #[inline(always)]
    fn bounded<T: Header>(&self, offset: usize) -> Result<usize, Verdict> {
        const { assert!(align_of::<T>() == 1) };
        let at = self.ctx.data() + self.link + (offset & OFFSET_MASK);
        if at + size_of::<T>() > self.ctx.data_end() {
            return Err(Verdict::Truncated);
        }
        Ok(at)
    }
}

/// Bytes of [`Frame::sum`]: as many as `bpf_csum_diff` takes at once.
pub const SUMMED: usize = 512;
