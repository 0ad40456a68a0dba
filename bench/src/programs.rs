//! The programs themselves.

use anyhow::{Context as _, Result};

use crate::{
    report::{Figure, Report},
    scene::{Program, Scene},
};

/// Bytes of an instruction.
const INSTRUCTION: u32 = 8;

/// Reports how long the programs are, and how much of them the verifier had to follow.
pub fn measure(report: &Report, scene: &mut Scene) -> Result<()> {
    for program in [Program::Users, Program::Plant] {
        let info = scene.datapath.program(program.name()).info()?;
        let translated = info.size_translated().context("the kernel tells the size of programs")?;
        let verified = info.verified_instruction_count().context("the kernel tells what the verifier did")?;
        let name = program.name();
        report.add(&Figure::new(format!("{name}.instructions"), f64::from(translated / INSTRUCTION), ""));
        report.add(&Figure::new(format!("{name}.verified"), f64::from(verified), ""));
    }
    Ok(())
}
