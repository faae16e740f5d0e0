//! The database of a folder of vectors: its file, how it is opened, and what went wrong with it.

use embral_types::{Error, ErrorKind, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use std::{path::Path, time::Duration};

pub(super) const FILE: &str = "vectors.sqlite";
/// What SQLite puts beside it.
pub(super) const BESIDE: [&str; 2] = ["vectors.sqlite-wal", "vectors.sqlite-shm"];
/// Marks the file as ours: "embv".
const APPLICATION: i64 = 0x656d_6276;
const FORM: i64 = 1;
/// How long a call waits for other processes; then the vectors are computed, or not kept.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that the log keeps after it was taken over into the file.
const LOG_BYTES: u64 = 4 << 20;

/// `page_size` before the first table: five vectors of 384 components a page.
const SETTINGS: &str = "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;";
/// `hash` is the first 8 bytes of the key; ids grow, so that what is removed together lies together.
const TABLES: &str = "CREATE TABLE vectors (id INTEGER PRIMARY KEY, hash INTEGER NOT NULL UNIQUE, key BLOB NOT NULL,
        used INTEGER NOT NULL, value BLOB NOT NULL);
    CREATE INDEX by_use ON vectors (used);";

/// Opens the database, and makes it where there is none.
pub(super) fn connect(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(PATIENCE)?;
        connection.execute_batch(SETTINGS)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES as i64)?;
        let form = |c: &Connection| -> rusqlite::Result<(i64, i64)> {
            let number = |name| c.pragma_query_value(None, name, |row| row.get(0));
            Ok((number("application_id")?, number("user_version")?))
        };
        if form(&connection)? == (0, 0) {
            // Of several processes that find no table one makes it.
            let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
            let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables == 0 {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "application_id", APPLICATION)?;
                transaction.pragma_update(None, "user_version", FORM)?;
            }
            transaction.commit()?;
        }
        let form = form(&connection)?;
        Ok((connection, form))
    };
    let (connection, form) = open().map_err(|e: rusqlite::Error| failed(file, &e))?;
    if form == (APPLICATION, FORM) {
        return Ok(connection);
    }
    let message = format!("a database, but no vector cache of this version: expected form {FORM}, found {form:?}");
    Err(Error::new(ErrorKind::Unsupported, message).in_file(file).hint("name another folder"))
}

/// Bytes of the database: of all its pages, and of those that hold something.
pub(super) struct Pages {
    pub(super) all: u64,
    pub(super) used: u64,
}

/// How much there is.
pub(super) fn pages(connection: &Connection) -> rusqlite::Result<Pages> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let (size, all, free) = (number("page_size")?, number("page_count")?, number("freelist_count")?);
    Ok(Pages { all: all * size, used: all.saturating_sub(free) * size })
}

/// Whether other processes are in the way.
pub(super) fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What went wrong, with what to do.
pub(super) fn failed(file: &Path, e: &rusqlite::Error) -> Error {
    let (kind, hint) = match e.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            (ErrorKind::Malformed, "`embral cache clear` removes what is damaged")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Io, "other processes are using it: try again")
        }
        Some(ErrorCode::DiskFull) => (ErrorKind::Io, "make room on the disk"),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => (ErrorKind::Io, "is the folder writable?"),
        // A table or column that is not there: not what we wrote.
        None | Some(ErrorCode::Unknown) => (ErrorKind::Malformed, "`embral cache clear` removes what is damaged"),
        Some(_) => (ErrorKind::Io, "name another folder"),
    };
    Error::new(kind, format!("the vector cache cannot be used: {e}")).in_file(file).hint(hint)
}
