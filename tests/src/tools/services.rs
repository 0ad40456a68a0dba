//! What users may reach on the gateway host itself.

use std::{io::ErrorKind, net::Ipv6Addr};

use anyhow::{Result, ensure};

use crate::{
    device::{self, Device, HTTP_PORT, MODBUS_PORT, UDP_PORT},
    namespace::Namespace,
    steps::equal,
};

use super::{
    Family, attempts, network,
    scene::Scene,
    servers::{authority, exchange},
};

/// Settings for the services of this scenario: HTTP, the UDP service, and `ping`.
pub fn settings() -> String {
    format!(
        "[[services]]\nprotocol = \"tcp\"\nport = {HTTP_PORT}\n\n\
         [[services]]\nprotocol = \"udp\"\nport = {UDP_PORT}\n\n\
         [[services]]\nprotocol = \"icmp-echo\"\n"
    )
}

/// What is listed answers. What else listens on the host does not, neither there nor under its other addresses.
pub fn reach(scene: &Scene) -> Result<Vec<String>> {
    let site = scene.folder.join("gateway-site");
    device::write_site(&site, "gateway", 1_000, 1_000)?;
    let _servers = Device::start(&Namespace::own(), "gateway", Ipv6Addr::UNSPECIFIED.into(), &[1], &site)?;
    let gateway = scene.gateway_address(Family::V4);
    let user = scene.user("user-b");

    let before = scene.verdict("to-gateway")?;
    equal("curl", &*user.run(&format!("curl -sS -m 30 http://{gateway}/name"))?, "gateway")?;
    equal("UDP", exchange(user, gateway, UDP_PORT)?, Ok("gateway hello".to_owned()))?;
    user.run(&format!("ping -n -c 2 -i 0.2 -W 5 {gateway}"))?;
    ensure!(scene.verdict("to-gateway")? >= before + 5, "a service was reached past the programs");

    // Modbus listens on every address, but is no service.
    let (before, refused) = (scene.verdict("to-gateway")?, scene.refused("user-b")?);
    for (target, port) in [(gateway, MODBUS_PORT), (scene.gateway_address(Family::V6), HTTP_PORT)] {
        let url = authority(target, port);
        let output = user.output(&format!("curl -gsS -m 5 http://{url}/name"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{url} was reached");
        ensure!(!said.contains("timed out"), "no answer from {url}: {said}");
    }
    equal("UDP, no service", exchange(user, gateway, UDP_PORT + 1)?, Err(ErrorKind::HostUnreachable))?;
    equal("packets to services", scene.verdict("to-gateway")?, before)?;
    ensure!(scene.refused("user-b")? >= refused + 3, "a refusal is not on record");
    off_limits(scene)?;
    Ok(vec![format!(
        "{gateway}: TCP {HTTP_PORT}, UDP {UDP_PORT} and ping answer; TCP {MODBUS_PORT}, where a server listens, UDP {} and \
         everything of IPv6 are refused at once",
        UDP_PORT + 1
    )])
}

/// The address that the host has in the plant behind Ethernet leads to none of its servers, neither for users nor for
/// the plant.
fn off_limits(scene: &Scene) -> Result<()> {
    let mut all = Vec::new();
    for family in Family::BOTH {
        let virtual_ = scene.virtual_address("store", family, network::GATEWAY)?;
        all.push((scene.user("user-a"), attempts::curl(&authority(virtual_, HTTP_PORT))));
        let real = network::real(family, network::GATEWAY);
        all.push((&scene.lan("store").host, attempts::curl(&authority(real, HTTP_PORT))));
        all.push((&scene.lan("store").host, attempts::ping(&real.to_string())));
    }
    attempts::must_fail(&all)
}
