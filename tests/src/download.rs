//! Downloads by `curl`, and what it says of them.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Child,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{device::HTTP_PORT, namespace::Namespace};

/// A running `curl`, which ends with this value.
#[derive(Debug)]
pub struct Download {
    curl: Option<Child>,
    file: PathBuf,
    report: PathBuf,
}

/// What `curl` said at the end.
#[derive(Clone, Debug)]
pub struct Downloaded {
    /// Where the content is.
    pub file: PathBuf,
    /// Bytes of the request.
    pub request: u64,
    /// Bytes of the response's header.
    pub header: u64,
    /// Bytes of content that this download brought.
    pub body: u64,
    /// How fast that was, Mbit/s.
    pub mbit: f64,
}

impl Download {
    /// Fetches the `blob` of a device.
    ///
    /// # Errors
    /// If `curl` cannot be started.
    pub fn start(user: &Namespace, folder: &Path, plant: &str, device: Ipv4Addr) -> Result<Self> {
        Self::start_of("blob", &[], user, folder, plant, device)
    }

    /// Fetches any file, with further options of `curl`.
    ///
    /// # Errors
    /// If `curl` cannot be started.
    pub fn start_of(
        name: &str,
        options: &[&str],
        user: &Namespace,
        folder: &Path,
        plant: &str,
        device: Ipv4Addr,
    ) -> Result<Self> {
        let file = folder.join(format!("{}-{plant}-{device}-{name}", user.name()));
        let report = file.with_extension("report");
        let curl = user
            .command("curl")
            .args(["-sS", "--no-buffer", "-m", "60"])
            .args(options)
            .args(["-w", "%{size_request} %{size_header} %{size_download} %{speed_download}"])
            .arg("-o")
            .arg(&file)
            .arg(format!("http://{device}:{HTTP_PORT}/{name}"))
            .stdout(fs::File::create(&report)?)
            .spawn()
            .context("start curl")?;
        Ok(Self { curl: Some(curl), file, report })
    }

    /// Bytes that have arrived.
    #[must_use]
    pub fn size(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }

    /// Waits for its end, which must be a good one.
    ///
    /// # Errors
    /// If it is not.
    pub fn finish(self) -> Result<Downloaded> {
        let (well, done) = self.end()?;
        ensure!(well, "curl did not fetch all of it: {done:?}");
        Ok(done)
    }

    /// Waits for its end, and tells whether it is a good one.
    ///
    /// # Errors
    /// If `curl` does not say what it has done.
    pub fn end(mut self) -> Result<(bool, Downloaded)> {
        let mut curl = self.curl.take().context("curl runs")?;
        let status = curl.wait()?;
        let report = fs::read_to_string(&self.report)?;
        let numbers = report.split_whitespace().map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?;
        let [request, header, body, speed] = numbers[..] else { bail!("curl ended with {status} and said {report:?}") };
        let done = Downloaded {
            file: self.file.clone(),
            request: request as u64,
            header: header as u64,
            body: body as u64,
            mbit: speed * 8.0 / 1e6,
        };
        Ok((status.success(), done))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(mut curl) = self.curl.take() {
            // Fails only if it has ended already.
            let _ = curl.kill();
            let _ = curl.wait();
        }
    }
}
