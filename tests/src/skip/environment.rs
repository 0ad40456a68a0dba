//! What `cargo xtask test` tells the tests. Included by `xtask` as well, which cannot depend on this package.

/// Names the file in which `cargo xtask test` collects the tests that were skipped.
pub const SKIPPED_FILE: &str = "VPN_TEST_SKIPPED";

/// Set by `cargo xtask test --quick`, which leaves out the tests that boot a machine.
pub const QUICK: &str = "VPN_TEST_QUICK";
