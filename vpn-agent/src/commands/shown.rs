//! A text with a private key in it, which is shown once.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{anyhow, bail};
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use zeroize::Zeroizing;

/// White on black, whatever the colours of the terminal are, and back to those.
const COLOURS: (&str, &str) = ("\x1b[40;97m", "\x1b[0m");

/// To standard output. Only when it returns without an error has somebody got all of it.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| anyhow!("standard output: {error}"))
}

/// To a new file of mode 0600, on disk when it returns.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{}: there is such a file already; choose another name", path.display())
        }
        Err(error) => bail!("{}: {error}", path.display()),
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key is none; what was wrong is told below.
        let _ = fs::remove_file(path);
    }
    written.map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// As a QR code of half-height blocks.
pub fn code(text: &str) -> anyhow::Result<Zeroizing<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|error| anyhow!("the profile as a QR code: {error}"))?;
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let picture = Zeroizing::new(picture);
    let (on, off) = COLOURS;
    let mut shown = Zeroizing::new(String::with_capacity(2 * picture.len()));
    for line in picture.lines() {
        for part in [on, line, off, "\n"] {
            shown.push_str(part);
        }
    }
    Ok(shown)
}
