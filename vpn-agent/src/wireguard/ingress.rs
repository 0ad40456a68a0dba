//! What runs at the ingress of an interface.

use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};

use super::{Error, Link, WireGuard, link::refused};
use crate::datapath::hook::Hook;

impl WireGuard {
    /// The id of the program that packets from an interface meet first behind XDP.
    pub(super) async fn first_at_ingress(&self, link: &Link) -> Result<Option<u32>, Error> {
        match Hook::of_kernel() {
            Hook::Tcx => match SchedClassifier::query_tcx(&link.name, TcAttachType::Ingress) {
                Ok((_, programs)) => Ok(programs.first().map(|program| program.id())),
                // The interface is gone, which the caller finds out.
                Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENODEV) => {
                    Ok(None)
                }
                Err(error) => {
                    let action = format!("ask for the programs of {}", link.name);
                    Err(Error::Protocol { action, what: error.to_string() })
                }
            },
            Hook::Filter => {
                let filters = self.links.traffic_filter(link.ifindex as i32).get().ingress().execute();
                let mut filters = match filters.try_collect::<Vec<_>>().await {
                    Ok(filters) => filters,
                    // There is no such qdisc.
                    Err(rtnetlink::Error::NetlinkError(error))
                        if [-libc::EINVAL, -libc::ENOENT, -libc::ENODEV].contains(&error.raw_code()) =>
                    {
                        Vec::new()
                    }
                    Err(error) => return Err(refused(format!("ask for the programs of {}", link.name), error)),
                };
                // The upper half is the priority.
                filters.sort_by_key(|filter| filter.header.info >> 16);
                Ok(filters.iter().find_map(program))
            }
        }
    }
}

fn program(filter: &TcMessage) -> Option<u32> {
    filter.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
            _ => None,
        }),
        _ => None,
    })
}
