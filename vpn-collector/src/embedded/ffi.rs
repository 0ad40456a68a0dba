//! The C interface of libchdb 26.7, the ClickHouse engine as a library. All unsafe code of the store is here.
//!
//! A connection is a session of its own: settings and current database are not seen by other connections of the
//! same process, and opening one takes well under a millisecond. A process has one data directory.

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr::{self, NonNull},
    slice,
};

/// `chdb_result *`
type RawAnswer = *mut c_void;
/// `chdb_connection`, the handle that statements take.
type RawHandle = *mut c_void;
/// `chdb_insert_stream`
type RawInsert = *mut c_void;

/// `CHDBSuccess` of `chdb_state`.
const SUCCESS: c_int = 0;

/// What the engine said when it refused: `Code: 60. DB::Exception: … (UNKNOWN_TABLE)`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Exception(pub(crate) String);

/// The functions that are used of the library, which is never unloaded: its threads outlive every connection.
pub(crate) struct Library {
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut RawHandle,
    close: unsafe extern "C" fn(*mut RawHandle),
    query: unsafe extern "C" fn(
        RawHandle,
        *const c_char,
        usize,
        *const c_char,
        usize,
        *const *const c_char,
        *const usize,
        *const *const c_char,
        *const usize,
        usize,
    ) -> RawAnswer,
    insert: unsafe extern "C" fn(
        RawHandle,
        *const c_char,
        usize,
        *const c_char,
        usize,
        *const *const c_char,
        *const usize,
        *const *const c_char,
        *const usize,
        usize,
    ) -> RawInsert,
    insert_error: unsafe extern "C" fn(RawInsert) -> *const c_char,
    append: unsafe extern "C" fn(RawInsert, *const c_void, usize) -> c_int,
    done: unsafe extern "C" fn(RawInsert) -> RawAnswer,
    destroy_insert: unsafe extern "C" fn(RawInsert),
    classify: unsafe extern "C" fn(RawHandle, *const c_char, usize, *const c_char, usize, *mut Analysis) -> c_int,
    buffer: unsafe extern "C" fn(RawAnswer) -> *const c_char,
    length: unsafe extern "C" fn(RawAnswer) -> usize,
    error: unsafe extern "C" fn(RawAnswer) -> *const c_char,
    rows_read: unsafe extern "C" fn(RawAnswer) -> u64,
    bytes_read: unsafe extern "C" fn(RawAnswer) -> u64,
    rows_written: unsafe extern "C" fn(RawAnswer) -> u64,
    bytes_written: unsafe extern "C" fn(RawAnswer) -> u64,
    destroy_answer: unsafe extern "C" fn(RawAnswer),
}

impl Library {
    /// Loads the library at `path`, for the rest of the process.
    pub(crate) fn load(path: &Path) -> Result<&'static Self, libloading::Error> {
        // SAFETY: the library's initialisers set up the engine's own statics and touch nothing of ours.
        let library = Box::leak(Box::new(unsafe { libloading::Library::new(path) }?));
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the field's type is the signature of this name in chdb.h 26.7.
                *unsafe { library.get($name) }?
            };
        }
        // The engine would otherwise take over SIGTERM and the deadly signals of the whole process.
        let handlers: unsafe extern "C" fn(c_int) = symbol!(c"chdb_set_signal_handlers_enabled");
        // SAFETY: takes a flag, and is called before the first connection as it demands.
        unsafe { handlers(0) };
        Ok(Box::leak(Box::new(Self {
            connect: symbol!(c"chdb_connect"),
            close: symbol!(c"chdb_close_conn"),
            query: symbol!(c"chdb_query_with_params_n"),
            insert: symbol!(c"chdb_stream_insert_with_params_n"),
            insert_error: symbol!(c"chdb_stream_insert_error"),
            append: symbol!(c"chdb_stream_append"),
            done: symbol!(c"chdb_stream_done"),
            destroy_insert: symbol!(c"chdb_destroy_insert_stream"),
            classify: symbol!(c"chdb_classify_query_n"),
            buffer: symbol!(c"chdb_result_buffer"),
            length: symbol!(c"chdb_result_length"),
            error: symbol!(c"chdb_result_error"),
            rows_read: symbol!(c"chdb_result_storage_rows_read"),
            bytes_read: symbol!(c"chdb_result_storage_bytes_read"),
            rows_written: symbol!(c"chdb_result_rows_written"),
            bytes_written: symbol!(c"chdb_result_bytes_written"),
            destroy_answer: symbol!(c"chdb_destroy_query_result"),
        })))
    }
}

/// One session. Closing the last one of the process stops the engine.
pub(crate) struct Connection {
    library: &'static Library,
    raw: NonNull<RawHandle>,
}

// SAFETY: the engine keeps no thread-local state for a connection; it asks for one statement at a time, and every
// method that runs one takes `&mut self`.
unsafe impl Send for Connection {}

impl Connection {
    /// Opens a session on the data in `path`; `None` if the engine refuses, which it explains on stderr only.
    pub(crate) fn open(library: &'static Library, path: &Path, config: &Path) -> Option<Self> {
        let argument = |name: &str, value: &OsStr| {
            // A path that came from a file system or a TOML string holds no NUL.
            CString::new([name.as_bytes(), value.as_bytes()].concat()).ok()
        };
        let arguments = [
            argument("clickhouse", OsStr::new(""))?,
            argument("--path=", path.as_os_str())?,
            argument("--config-file=", config.as_os_str())?,
        ];
        let mut pointers = arguments.each_ref().map(|argument| argument.as_ptr().cast_mut());
        let count = c_int::try_from(pointers.len()).ok()?;
        // SAFETY: `count` NUL-terminated strings, alive during the call, which copies them.
        let raw = unsafe { (library.connect)(count, pointers.as_mut_ptr()) };
        Some(Self { library, raw: NonNull::new(raw)? })
    }

    /// Runs `sql` and returns its result in `format`.
    pub(crate) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, Exception> {
        let names = Texts::new(parameters.iter().map(|(name, _)| name.as_str()));
        let values = Texts::new(parameters.iter().map(|(_, value)| value.as_str()));
        // SAFETY: a live handle; every pointer comes with its length and outlives the call.
        let raw = unsafe {
            (self.library.query)(
                self.handle(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.pointers.as_ptr(),
                names.lengths.as_ptr(),
                values.pointers.as_ptr(),
                values.lengths.as_ptr(),
                parameters.len(),
            )
        };
        Answer::new(self.library, raw)
    }

    /// Starts an insert whose rows follow in `format`; `sql` is the statement without its FORMAT clause.
    pub(crate) fn insert(
        &mut self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Insert<'_>, Exception> {
        let names = Texts::new(parameters.iter().map(|(name, _)| name.as_str()));
        let values = Texts::new(parameters.iter().map(|(_, value)| value.as_str()));
        // SAFETY: a live handle; every pointer comes with its length and outlives the call.
        let raw = unsafe {
            (self.library.insert)(
                self.handle(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.pointers.as_ptr(),
                names.lengths.as_ptr(),
                values.pointers.as_ptr(),
                values.lengths.as_ptr(),
                parameters.len(),
            )
        };
        let insert = Insert { connection: self, raw };
        match insert.error() {
            Some(exception) => Err(exception),
            None => Ok(insert),
        }
    }

    /// What `sql` would do, as the engine's own parser sees it.
    pub(crate) fn classify(&mut self, sql: &[u8]) -> Analysis {
        let mut analysis = Analysis::default();
        // SAFETY: a live handle, `sql` with its length, no target database, and a struct that states its own size.
        let state = unsafe {
            (self.library.classify)(self.handle(), sql.as_ptr().cast(), sql.len(), ptr::null(), 0, &raw mut analysis)
        };
        if state == SUCCESS { analysis } else { Analysis::default() }
    }

    fn handle(&self) -> RawHandle {
        // SAFETY: `connect` returned a pointer to the handle, valid until `close`.
        unsafe { *self.raw.as_ptr() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: came from `connect` and is closed once, here.
        unsafe { (self.library.close)(self.raw.as_ptr()) };
    }
}

/// An insert under way. Dropped before [`Insert::finish`], what was not yet written is given up.
pub(crate) struct Insert<'c> {
    connection: &'c mut Connection,
    raw: RawInsert,
}

impl Insert<'_> {
    /// Hands over the next bytes, blocking while the engine is busy with earlier ones.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Exception> {
        // SAFETY: a live stream; the bytes are copied by the call.
        let state = unsafe { (self.connection.library.append)(self.raw, bytes.as_ptr().cast(), bytes.len()) };
        if state == SUCCESS {
            return Ok(());
        }
        Err(self.error().unwrap_or_else(|| Exception("the insert had already failed".into())))
    }

    /// Ends the data; on `Ok` every row is in the table.
    pub(crate) fn finish(self) -> Result<Answer, Exception> {
        // SAFETY: a live stream, finalised once since `self` is consumed; dropping it afterwards is demanded.
        let raw = unsafe { (self.connection.library.done)(self.raw) };
        Answer::new(self.connection.library, raw)
    }

    fn error(&self) -> Option<Exception> {
        // SAFETY: a live stream; the text lives as long and is copied here.
        unsafe { text((self.connection.library.insert_error)(self.raw)) }
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: came from `insert` and is destroyed once, here.
        unsafe { (self.connection.library.destroy_insert)(self.raw) };
    }
}

/// The result of a statement, in memory of the engine.
pub(crate) struct Answer {
    library: &'static Library,
    raw: NonNull<c_void>,
}

// SAFETY: a finished result is plain memory that no engine thread refers to any more.
unsafe impl Send for Answer {}

impl Answer {
    fn new(library: &'static Library, raw: RawAnswer) -> Result<Self, Exception> {
        let Some(raw) = NonNull::new(raw) else {
            return Err(Exception("the engine gave no result".into()));
        };
        let answer = Self { library, raw };
        // SAFETY: a live result; the text lives as long and is copied here.
        match unsafe { text((library.error)(answer.raw.as_ptr())) } {
            Some(exception) => Err(exception),
            None => Ok(answer),
        }
    }

    /// Rows and bytes read from storage, then rows and bytes written.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let library = self.library;
        [library.rows_read, library.bytes_read, library.rows_written, library.bytes_written].map(|count| {
            // SAFETY: a live result, only read.
            unsafe { count(self.raw.as_ptr()) }
        })
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a live result, only read.
        let (buffer, length) =
            unsafe { ((self.library.buffer)(self.raw.as_ptr()), (self.library.length)(self.raw.as_ptr())) };
        if buffer.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the engine's buffer of this length stays in place until the result is destroyed.
        unsafe { slice::from_raw_parts(buffer.cast(), length) }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: came from the engine and is destroyed once, here.
        unsafe { (self.library.destroy_answer)(self.raw.as_ptr()) };
    }
}

/// `chdb_query_analysis_v1`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Analysis {
    /// Of this struct, so that a newer engine fills no more than there is room for.
    size: u32,
    /// 0 for text that does not parse.
    pub(crate) statements: u32,
    flags: u32,
    /// `chdb_query_class`
    class: u32,
}

impl Analysis {
    /// Leaves no trace.
    pub(crate) const fn is_read_only(&self) -> bool {
        self.class == 0
    }

    /// Session control, or writes outside the engine (`INTO OUTFILE`).
    pub(crate) const fn is_control(&self) -> bool {
        self.class == 3
    }
}

impl Default for Analysis {
    fn default() -> Self {
        const UNKNOWN: u32 = 4;
        const SIZE: u32 = 16;
        const { assert!(size_of::<Analysis>() == SIZE as usize) };
        Self { size: SIZE, statements: 0, flags: 0, class: UNKNOWN }
    }
}

/// Strings as the C interface wants them: an array of pointers and one of lengths.
struct Texts {
    pointers: Vec<*const c_char>,
    lengths: Vec<usize>,
}

impl Texts {
    fn new<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let (pointers, lengths) = texts.map(|text| (text.as_ptr().cast::<c_char>(), text.len())).unzip();
        Self { pointers, lengths }
    }
}

/// # Safety
/// `pointer` is null or a NUL-terminated string that lives during the call.
unsafe fn text(pointer: *const c_char) -> Option<Exception> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(Exception(text.to_string_lossy().into_owned()))
}
