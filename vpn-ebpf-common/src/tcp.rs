//! How far a TCP connection is, as the flags that were seen from either side tell.

/// FIN, as in the TCP header (RFC 9293, 3.1).
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;

/// What is kept of a header's flags.
const KEPT: u8 = FIN | SYN | RST | ACK;

/// State of a connection. Sequence numbers are not followed: a reset that the other side ignores only makes the flow
/// end sooner once it is silent, and the next packet from the user opens another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not acknowledged from both sides yet, or finished from one side.
    Transitory,
    /// Both sides have acknowledged something.
    Established,
    /// Finished from both sides, or reset.
    Closed,
}

/// The flags seen from one side after a packet with `flags` from that side. A new SYN begins anew.
#[inline(always)]
#[must_use]
pub const fn seen(before: u8, flags: u8) -> u8 {
    if flags & SYN != 0 { flags & KEPT } else { before | flags & KEPT }
}

/// The state by what was seen from the user and from the plant.
#[inline(always)]
#[must_use]
pub const fn state(user: u8, plant: u8) -> State {
    if (user | plant) & RST != 0 || user & plant & FIN != 0 {
        State::Closed
    } else if user & plant & ACK != 0 && (user | plant) & FIN == 0 {
        State::Established
    } else {
        State::Transitory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Side {
        User,
        Plant,
    }
    use Side::{Plant, User};

    fn after(packets: &[(Side, u8)]) -> State {
        let (mut user, mut plant) = (0, 0);
        for (from, flags) in packets {
            match from {
                User => user = seen(user, *flags),
                Plant => plant = seen(plant, *flags),
            }
        }
        state(user, plant)
    }

    #[test]
    fn connections_go_through_their_states() {
        let open = [(User, SYN), (Plant, SYN | ACK), (User, ACK)];
        let and = |more: &[(Side, u8)]| {
            let mut all = [(User, 0); 8];
            all[..3].copy_from_slice(&open);
            all[3..3 + more.len()].copy_from_slice(more);
            after(&all[..3 + more.len()])
        };
        assert_eq!(after(&open[..1]), State::Transitory);
        assert_eq!(after(&open[..2]), State::Transitory);
        assert_eq!(after(&open), State::Established);
        assert_eq!(after(&[(User, SYN), (Plant, RST | ACK)]), State::Closed, "refused");
        assert_eq!(after(&[(User, ACK), (Plant, ACK)]), State::Established, "picked up in the middle");
        assert_eq!(and(&[(User, FIN | ACK)]), State::Transitory, "half closed");
        assert_eq!(and(&[(User, FIN | ACK), (Plant, FIN | ACK)]), State::Closed);
        assert_eq!(and(&[(Plant, RST)]), State::Closed);
        assert_eq!(and(&[(Plant, RST), (User, ACK)]), State::Closed, "what comes late does not open it again");
        let again = [(User, FIN | ACK), (Plant, FIN | ACK), (User, SYN)];
        assert_eq!(and(&again), State::Transitory, "the same ports once more");
    }
}
