//! What the agent does for the map WAYS, which is the programs' own.

use std::path::Path;

use aya::maps::{Array, Map};
use vpn_ebpf_common::{
    names,
    ways::{PLACES, Ways},
};

use super::Error;

/// Whether the pin of WAYS is gone and that of FLOWS is not, as where a removal of all pins was cut off. The programs would
/// then take the flows that are there for flows of nobody.
pub(super) fn is_lost(maps: &Path) -> bool {
    maps.join(names::FLOWS).exists() && !maps.join(names::WAYS).exists()
}

/// Has the programs look for a flow under either address, whosever it is.
pub(super) fn assume_all(map: &mut Map) -> Result<(), Error> {
    let failed = |source| Error::Map { map: names::WAYS, source };
    let mut ways = Array::<_, Ways>::try_from(map).map_err(failed)?;
    for place in 0..PLACES {
        ways.set(place, Ways { real: 1, twin: 1 }, 0).map_err(failed)?;
    }
    Ok(())
}
