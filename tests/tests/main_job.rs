//! The product's main job on every kernel that set-up has brought. See `vpn_tests::main_job` for what it checks.

use std::sync::{Mutex, PoisonError};

use vpn_tests::{
    demo::{self, Stage},
    skip,
    vm::Kernel,
};

/// An emulated machine has two busy processors; several at a time would only make each other late.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn on_linux_6_1() {
    play("6.1", Stage::Machine);
}

#[test]
fn on_linux_6_12() {
    play("6.12", Stage::Machine);
}

#[test]
fn in_namespaces_with_the_embedded_store() {
    play("6.12", Stage::NamespacesOfMachine);
}

fn play(series: &str, stage: Stage) {
    let name = format!("main_job on Linux {series}, {stage:?}");
    if skip::quick() {
        return skip::skipped(&name, "--quick leaves out what boots a machine");
    }
    let kernel = Kernel::series(series).unwrap_or_else(|| panic!("no kernel {series}; run `cargo xtask setup`"));
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lines = Vec::new();
    let outcome = demo::in_machine(&kernel, stage, |line| lines.push(line.to_owned()));
    if let Err(error) = outcome {
        panic!("{error:#}\n{}", lines.join("\n"));
    }
}
