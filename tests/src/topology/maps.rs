//! A [`Topology`] as the kernel's maps hold it.

use std::collections::BTreeMap;

use vpn_ebpf_common::{
    Address, Prefix,
    gateway::Gateway,
    plant::{self, MAX_SUBNETS},
    route::{self, V4_OFFSET},
    service::ServiceKey,
};

use super::{Net, Topology};

/// Destinations by route-set id, network address and prefix length in the 128 bits of [`Address`].
pub type Routes = BTreeMap<(u32, Address, u32), route::Route>;

impl Topology {
    /// The value of GATEWAY.
    #[must_use]
    pub fn gateway(&self) -> Gateway {
        Gateway {
            users: self.users,
            users_mtu: self.users_mtu,
            generation: self.generation,
            options: self.options,
            tunnel: self.tunnel.map(prefix),
            source: self.source.map(prefix),
            address: self.address.map(Address::from),
            idle: self.idle,
            limits: self.limits,
        }
    }

    /// The entries of ROUTES.
    #[must_use]
    pub fn route_entries(&self) -> Routes {
        let sets = self.route_sets.iter();
        let routes = sets.flat_map(|(set, routes)| routes.iter().map(move |(net, route)| (*set, net, route)));
        routes
            .map(|(set, net, route)| {
                let value = route::Route {
                    plant: route.plant,
                    id: route.id,
                    egress: route.egress,
                    real: prefix(route.subnet.real),
                    twin: route.subnet.twin.address.into(),
                };
                ((set, net.address.into(), length(*net)), value)
            })
            .collect()
    }

    /// The entries of PLANTS.
    ///
    /// # Panics
    /// If a plant has more subnets than an entry has room for.
    #[must_use]
    pub fn plant_entries(&self) -> BTreeMap<u32, plant::Plant> {
        let entry = |plant: &super::Plant| {
            assert!(plant.subnets.len() <= MAX_SUBNETS, "{} subnets", plant.subnets.len());
            let mut subnets = [plant::Subnet::NONE; MAX_SUBNETS];
            for (place, subnet) in subnets.iter_mut().zip(&plant.subnets) {
                *place = plant::Subnet { real: prefix(subnet.real), twin: subnet.twin.address.into() };
            }
            plant::Plant {
                id: plant.id,
                mtu: plant.mtu,
                link_header: plant.link_header,
                subnet_count: plant.subnets.len() as u32,
                subnets,
            }
        };
        self.plants.iter().map(|(uplink, plant)| (*uplink, entry(plant))).collect()
    }

    /// The entries of SERVICES.
    #[must_use]
    pub fn service_entries(&self) -> BTreeMap<ServiceKey, u32> {
        let key = |service: &super::Service| ServiceKey {
            address: service.address.into(),
            port: service.port.to_be(),
            protocol: service.protocol,
            reserved: 0,
        };
        self.services.iter().map(|(service, route)| (key(service), *route)).collect()
    }
}

fn prefix(net: Net) -> Prefix {
    Prefix::new(net.address.into(), length(net))
}

fn length(net: Net) -> u32 {
    let offset = if net.address.is_ipv4() { V4_OFFSET } else { 0 };
    offset + u32::from(net.length)
}
