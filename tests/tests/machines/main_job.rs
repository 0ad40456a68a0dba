//! The product's main job on every kernel that set-up has brought. See `vpn_tests::main_job` for what it checks.

use vpn_tests::demo::{self, Stage};

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
    let Some(kernel) = super::kernel(series, &format!("main_job, {stage:?},")) else { return };
    let mut lines = Vec::new();
    let outcome = demo::in_machine(&kernel, stage, |line| lines.push(line.to_owned()));
    if let Err(error) = outcome {
        panic!("{error:#}\n{}", lines.join("\n"));
    }
}
