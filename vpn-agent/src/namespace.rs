//! Namespaces for tests.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt as _, path::Path, ptr, thread};

/// Runs on a thread with network and mounts of its own. Does nothing where the user may not have that.
pub fn in_new_namespace(test: impl Future<Output = ()> + Send) {
    made_in_new_namespace(|| test);
}

/// The same for what is made on that thread, as it cannot go there.
pub fn made_in_new_namespace<T: Future<Output = ()>>(test: impl FnOnce() -> T + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: unshare takes no pointers; it changes this thread only, which ends with the test.
            if unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) } != 0 {
                eprintln!("skipped: {}", io::Error::last_os_error());
                return;
            }
            mount(None, Path::new("/"), libc::MS_REC | libc::MS_PRIVATE).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
        });
        thread.join().unwrap();
    });
}

/// Mounts a BPF file system, which goes with the namespace.
///
/// # Errors
/// What the kernel says.
pub fn mount_bpf(folder: &Path) -> io::Result<()> {
    mount(Some("bpf"), folder, 0)
}

/// A file system of this kind, or other flags for the mount that is there.
fn mount(kind: Option<&str>, folder: &Path, flags: libc::c_ulong) -> io::Result<()> {
    let kind = kind.map(CString::new).transpose()?;
    let folder = CString::new(folder.as_os_str().as_bytes())?;
    let kind = kind.as_ref().map_or(ptr::null(), |kind| kind.as_ptr());
    // SAFETY: the pointers are to strings that outlive the call, or null, which mount takes for "none".
    match unsafe { libc::mount(kind, folder.as_ptr(), kind, flags, ptr::null()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
