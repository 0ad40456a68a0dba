//! The commands of the documents do what they say. See `vpn_tests::first_plant` for what it checks.

use std::{path::Path, time::Duration};

use vpn_tests::{demo, vm::Machine};

/// How long all commands may take under emulation.
const LIMIT: Duration = Duration::from_secs(900);

/// The ClickHouse library lies in the machine's initial file system, is unpacked from it, and is installed once more.
const MEMORY_MIB: u32 = 6_144;

/// Requirements: A4, B4, G3, G5.
#[test]
fn commands_do_what_the_documents_say() {
    let Some(kernel) = super::newest_kernel("commands_do_what_the_documents_say") else { return };
    let programs = demo::programs().unwrap();
    let mut machine = Machine::new(&kernel).memory(MEMORY_MIB).file("/usr/bin/wg-quick", "/sbin/wg-quick");
    for program in ["guest", "vpn-agent", "vpn-collector"] {
        machine = machine.program(programs.join(program));
    }
    // The library comes with what it needs, as a program does. The tools are those that busybox has otherwise or not.
    let tools = ["bash", "install", "stat"].map(|tool| Path::new("/usr/bin").join(tool));
    for program in tools.into_iter().chain([demo::library().unwrap()]) {
        machine = machine.program(program);
    }
    let report = machine.run(&["guest", "first-plant"], LIMIT, |line| println!("{line}")).unwrap();
    assert_eq!(report.exit, 0, "a document's commands do not do what it says, see above");
}
