//! The machines that the other tests run in do what those tests rely on, on each kernel.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use vpn_tests::{
    skip,
    vm::{HOST, Kernel, Machine, REPORT, Report, TimedOut},
};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn each_kernel_runs_wireguard_and_gives_the_exit_code() {
    let test = "each_kernel_runs_wireguard_and_gives_the_exit_code";
    for kernel in &kernels(test) {
        let script = "set -e; uname -r; ip link add wg0 type wireguard; wg genkey > /tmp/key; wg set wg0 private-key /tmp/key; \
                      ip netns add plant; ip link add lan netns plant type dummy; ip tuntap add tun0 mode tun; \
                      wg show wg0 public-key; exit 42";
        let started = Instant::now();
        let report = sh(kernel, script);
        println!("{}: on, done and off in {:.1} s", kernel.release(), started.elapsed().as_secs_f32());
        assert_eq!(report.exit, 42, "{report:?}");
        assert!(report.console.iter().any(|line| line == kernel.release()), "{report:?}");
    }
}

#[test]
fn report_and_console_come_whole() {
    let Some(kernel) = kernels("report_and_console_come_whole").pop() else { return };
    let report = sh(&kernel, &format!("seq 5000; seq 20000 > ${REPORT}; printf last"));
    // Not `assert_eq`, which would print all of it.
    let numbers = |to: u32| (1..=to).map(|number| number.to_string());
    assert!(report.text.lines().map(str::to_owned).eq(numbers(20_000)), "report of {} bytes", report.text.len());
    let console = report.console.iter().skip_while(|line| *line != "1");
    let tail = &report.console[report.console.len().saturating_sub(5)..];
    assert!(console.cloned().eq(numbers(5_000).chain(["last".to_owned()])), "console ends with {tail:?}");
}

#[test]
fn a_hanging_command_is_ended() {
    let Some(kernel) = kernels("a_hanging_command_is_ended").pop() else { return };
    let limit = Duration::from_secs(40);
    let started = Instant::now();
    let mut seen_alive = None;
    let hung = Machine::new(&kernel).run(&["sh", "-c", "echo hanging; sleep 1000"], limit, |line| {
        if line == "hanging" {
            seen_alive = Some(started.elapsed());
        }
    });
    assert!(hung.unwrap_err().is::<TimedOut>());
    assert!(seen_alive.is_some_and(|after| after < limit), "the console is seen while the guest runs");
    assert!(started.elapsed() < limit * 2);
}

#[test]
fn programs_and_files_come_along_and_the_host_is_in_reach() {
    for kernel in &kernels("programs_and_files_come_along_and_the_host_is_in_reach") {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script =
            format!("grep -q resolver '/data/it is.toml' && env --version && nmap -Pn -n -sT -p {port} {HOST}");
        let report = Machine::new(kernel)
            .program("/usr/bin/env")
            .file(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"), "/data/it is.toml")
            .network(true)
            .run(&["sh", "-c", &script], LIMIT, |_| ())
            .unwrap();
        assert_eq!(report.exit, 0, "{report:?}");
        assert!(report.console.iter().any(|line| line.contains("GNU coreutils")), "{report:?}");
        assert!(report.console.iter().any(|line| line.contains("/tcp open")), "{report:?}");
    }
}

fn sh(kernel: &Kernel, script: &str) -> Report {
    Machine::new(kernel).run(&["sh", "-c", script], LIMIT, |_| ()).unwrap()
}

/// The kernels to boot. None of them is reported as a skipped test.
fn kernels(test: &str) -> Vec<Kernel> {
    if skip::quick() {
        skip::skipped(test, "it boots a machine, and only quick tests are wanted");
        return Vec::new();
    }
    let kernels = Kernel::all();
    if kernels.is_empty() {
        skip::skipped(test, "there is no kernel to boot; run `cargo xtask setup`");
    }
    kernels
}
