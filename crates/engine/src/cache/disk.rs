//! The vectors on disk: one SQLite database a folder, which any number of processes use at once.
//!
//! Readers see what was committed last and wait for nobody; writers take turns; a process that is killed leaves what it had committed
//! (write-ahead log). A record carries its whole key and a checksum over key and vector, so that a damaged one is no vector. What goes
//! wrong is reported once, and the store is left alone from then on: the vectors are computed.

use super::{
    VectorCache,
    database::{FILE, connect, failed, is_busy, pages},
    key::Key,
};
use embral_types::{Error, ErrorKind};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::{
    fs,
    hash::Hasher,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};
use twox_hash::xxhash3_64::Hasher as XxHash3_64;

/// A vector that was used counts as used now where its time is older than this, so that most reads write nothing.
const REFRESH_SECONDS: i64 = 3600;
/// Records removed in one step.
const STEP: usize = 16;
/// Bytes of a record beside its numbers: key, checksum, times and its entries in two indices.
const OVERHEAD: usize = 160;
const CHECKSUM: usize = size_of::<u64>();

/// A store that is open, until something goes wrong with it.
pub(super) struct Disk {
    connection: Mutex<Option<Connection>>,
    file: PathBuf,
    limit: u64,
    report: fn(&Error),
    /// A damaged vector has been reported.
    damaged: AtomicBool,
}

impl Disk {
    pub(super) fn open(folder: &Path, settings: &VectorCache) -> Self {
        let file = folder.join(FILE);
        let mut builder = fs::DirBuilder::new();
        // What a vector is of can be guessed from it.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let connection = builder
            .recursive(true)
            .create(folder)
            .map_err(|e| Error::io("cannot create the folder", folder, e))
            .and_then(|()| connect(&file))
            .inspect_err(|e| (settings.report)(&without(e)));
        let (limit, report) = (settings.disk_bytes, settings.report);
        Self { connection: connection.ok().into(), file, limit, report, damaged: AtomicBool::new(false) }
    }

    /// What is kept under each key.
    pub(super) fn get(&self, keys: &[Key]) -> Vec<Option<Box<[f32]>>> {
        let found = self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut old = Vec::new();
            let mut damaged = false;
            let now = seconds();
            let mut found = Vec::with_capacity(keys.len());
            {
                let mut select = transaction.prepare("SELECT id, key, used, value FROM vectors WHERE hash = ?1")?;
                for key in keys {
                    let read = |row: &rusqlite::Row<'_>| {
                        let blob = |i| row.get_ref(i).map(|v| v.as_blob().unwrap_or_default().to_vec());
                        Ok((row.get(0)?, blob(1)?, row.get(2)?, blob(3)?))
                    };
                    let row: Option<(i64, Vec<u8>, i64, Vec<u8>)> = select.query_row([hash(key)], read).optional()?;
                    let of_this = row.filter(|(_, k, _, _)| k == key);
                    found.push(of_this.and_then(|(id, _, used, value)| {
                        let vector = decode(key, &value);
                        damaged |= vector.is_none();
                        if now - used > REFRESH_SECONDS {
                            old.push(id);
                        }
                        vector
                    }));
                }
            }
            drop(transaction);
            Ok((found, old, damaged))
        });
        let Some((found, old, damaged)) = found else { return vec![None; keys.len()] };
        if damaged && !self.damaged.swap(true, Ordering::Relaxed) {
            let error = Error::new(ErrorKind::Malformed, "a vector of the cache is damaged: it is computed again");
            (self.report)(&error.in_file(&self.file));
        }
        if !old.is_empty() {
            self.with(|connection| {
                let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
                for id in &old {
                    transaction.execute("UPDATE vectors SET used = ?1 WHERE id = ?2", params![seconds(), id])?;
                }
                transaction.commit()
            });
        }
        found
    }

    /// Keeps vectors of `dim` components, all of them or, where other processes are in the way, none.
    pub(super) fn put(&self, keys: &[Key], rows: &[f32], dim: usize) {
        let shrink = self.with(|connection| {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let fits = make_room(&transaction, self.limit, (keys.len() * (dim * size_of::<f32>() + OVERHEAD)) as u64)?;
            if fits {
                let mut insert = transaction
                    .prepare("INSERT OR REPLACE INTO vectors (hash, key, used, value) VALUES (?1, ?2, ?3, ?4)")?;
                for (key, row) in keys.iter().zip(rows.chunks_exact(dim.max(1))) {
                    insert.execute(params![hash(key), key, seconds(), encode(key, row)])?;
                }
            }
            let shrink = pages(&transaction)?.all > self.limit;
            transaction.commit()?;
            Ok(shrink)
        });
        if shrink == Some(true) {
            // A row a page that is given back.
            self.with(|connection| connection.pragma_query(None, "incremental_vacuum", |_| Ok(())));
        }
    }

    /// Runs `work`; what goes wrong is reported, and ends the use of the store. That others are writing is nothing wrong.
    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        match work(connection.as_ref()?) {
            Ok(done) => Some(done),
            Err(e) => {
                if !is_busy(&e) {
                    *connection = None;
                    (self.report)(&without(&failed(&self.file, &e)));
                }
                None
            }
        }
    }
}

/// Removes the vectors used longest ago until `more` bytes fit; whether they do. A sixteenth goes with them, so that it is seldom.
fn make_room(transaction: &Transaction<'_>, limit: u64, more: u64) -> rusqlite::Result<bool> {
    if pages(transaction)?.used + more <= limit {
        return Ok(true);
    }
    let Some(target) = (limit - limit / 16).checked_sub(more) else { return Ok(false) };
    let mut remove =
        transaction.prepare("DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY used, id LIMIT ?1)")?;
    while pages(transaction)?.used > target {
        if remove.execute([STEP as i64])? == 0 {
            return Ok(pages(transaction)?.used + more <= limit);
        }
    }
    Ok(true)
}

fn hash(key: &Key) -> i64 {
    i64::from_le_bytes(key[..8].try_into().expect("a key has 32 bytes"))
}

/// Little-endian floats and the checksum of key and floats.
fn encode(key: &Key, row: &[f32]) -> Vec<u8> {
    let mut value: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
    let sum = checksum(key, &value);
    value.extend(sum.to_le_bytes());
    value
}

/// The vector of a record, where it is whole.
fn decode(key: &Key, value: &[u8]) -> Option<Box<[f32]>> {
    let (numbers, sum) = value.split_at_checked(value.len().checked_sub(CHECKSUM)?)?;
    let sum = u64::from_le_bytes(sum.try_into().ok()?);
    let whole = numbers.len().is_multiple_of(size_of::<f32>()) && checksum(key, numbers) == sum;
    let number = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("a chunk has four bytes"));
    whole.then(|| numbers.chunks_exact(size_of::<f32>()).map(number).collect())
}

fn checksum(key: &Key, numbers: &[u8]) -> u64 {
    let mut hasher = XxHash3_64::new();
    hasher.write(key);
    hasher.write(numbers);
    hasher.finish()
}

fn seconds() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_secs().try_into().unwrap_or(i64::MAX))
}

/// The same error, with what happens now.
fn without(e: &Error) -> Error {
    Error::new(e.kind(), format!("{e}; going on without"))
}

#[cfg(test)]
mod tests {
    use super::super::VectorFolder;
    use super::*;
    use std::{cell::RefCell, process::Command, time::Duration};

    const DIM: usize = 384;

    thread_local! {
        static REPORTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    fn reports() -> Vec<String> {
        REPORTS.with(RefCell::take)
    }

    fn open(folder: &Path, disk_bytes: u64) -> Disk {
        let report = |e: &Error| REPORTS.with(|reports| reports.borrow_mut().push(e.to_string()));
        Disk::open(folder, &VectorCache { disk_bytes, report, ..VectorCache::in_folder(folder) })
    }

    fn key(n: u32) -> Key {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_le_bytes());
        key[8..12].copy_from_slice(&n.to_le_bytes());
        key
    }

    fn row(n: u32) -> Vec<f32> {
        (0..DIM).map(|i| (n as f32 + 0.1) * (i as f32 - 0.7)).collect()
    }

    fn put(disk: &Disk, numbers: std::ops::Range<u32>) {
        let keys: Vec<Key> = numbers.clone().map(key).collect();
        let rows: Vec<f32> = numbers.flat_map(row).collect();
        disk.put(&keys, &rows, DIM);
    }

    fn has(disk: &Disk, n: u32) -> bool {
        match &disk.get(&[key(n)])[0] {
            Some(found) => {
                let same = found.iter().map(|x| x.to_bits()).eq(row(n).iter().map(|x| x.to_bits()));
                assert!(same, "vector {n} is another one");
                true
            }
            None => false,
        }
    }

    #[test]
    fn what_was_put_comes_back_bit_for_bit_and_to_others() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        let disk = open(&folder, 1 << 20);
        put(&disk, 0..10);
        let odd = [f32::MIN_POSITIVE / 2.0, -0.0, f32::MAX];
        disk.put(&[key(99)], &odd, 3);
        let other = open(&folder, 1 << 20);
        assert!((0..10).all(|n| has(&other, n)) && !has(&other, 10));
        let back = other.get(&[key(99)]).remove(0).unwrap();
        assert!(back.iter().zip(odd).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!(VectorFolder::new(&folder).vectors().unwrap(), 11);
        let whole = VectorFolder::new(&folder);
        assert!(whole.bytes() > 0 && whole.clear().unwrap() > 0);
        assert_eq!(whole.vectors().unwrap(), 0);
        assert!(!has(&other, 1));
        put(&other, 1..2);
        assert!(has(&disk, 1));
        assert_eq!(reports(), [""; 0]);
    }

    #[test]
    fn the_store_keeps_to_its_bytes_and_those_used_last_stay() {
        let home = tempfile::tempdir().unwrap();
        let limit = 512 << 10;
        let disk = open(home.path(), limit);
        for start in (0..2000).step_by(50) {
            put(&disk, start..start + 50);
        }
        let kept = (0..2000).filter(|&n| has(&disk, n)).count();
        assert!(has(&disk, 1999) && !has(&disk, 0));
        assert!((100..350).contains(&kept), "{kept} of 1.6 kB in 512 KiB");
        let file = fs::metadata(home.path().join(FILE)).unwrap().len();
        assert!(file <= limit + (64 << 10), "{file}");
        let smaller = open(home.path(), 128 << 10);
        put(&smaller, 3000..3001);
        drop((disk, smaller));
        let file = fs::metadata(home.path().join(FILE)).unwrap().len();
        assert!(file <= 192 << 10, "{file}");
        let none = open(home.path(), 0);
        put(&none, 5000..5001);
        assert!(!has(&none, 5000));
        assert_eq!(reports(), [""; 0]);
    }

    #[test]
    fn what_is_used_again_outlives_what_is_not() {
        let home = tempfile::tempdir().unwrap();
        let disk = open(home.path(), 256 << 10);
        put(&disk, 0..20);
        let connection = connect(&home.path().join(FILE)).unwrap();
        // As if nobody had used any of them for a day.
        connection.execute("UPDATE vectors SET used = used - 86400", []).unwrap();
        assert!(has(&disk, 7));
        // And the others of this test a little longer ago than now.
        for start in (100..400).step_by(20) {
            put(&disk, start..start + 20);
            connection.execute("UPDATE vectors SET used = used - 60 WHERE hash != ?1", [hash(&key(7))]).unwrap();
        }
        assert!(has(&disk, 7) && !has(&disk, 6) && !has(&disk, 8));
    }

    #[test]
    fn a_damaged_record_is_no_vector_and_is_reported_once() {
        let home = tempfile::tempdir().unwrap();
        let disk = open(home.path(), 1 << 20);
        put(&disk, 0..4);
        let connection = connect(&home.path().join(FILE)).unwrap();
        let change = |sql: &str, n: u32| assert_eq!(connection.execute(sql, [hash(&key(n))]).unwrap(), 1);
        // A bit of a component, the vector of another, half a vector, and the key of another text.
        change("UPDATE vectors SET value = CAST(x'00' || substr(value, 2) AS BLOB) WHERE hash = ?1", 0);
        let of = hash(&key(3));
        change(&format!("UPDATE vectors SET value = (SELECT value FROM vectors WHERE hash = {of}) WHERE hash = ?1"), 1);
        change("UPDATE vectors SET value = substr(value, 1, 40) WHERE hash = ?1", 2);
        assert!(!has(&disk, 0) && !has(&disk, 1) && !has(&disk, 2) && has(&disk, 3));
        let lines = reports();
        assert!(lines.len() == 1 && lines[0].contains("is damaged: it is computed again"), "{lines:?}");
        change("UPDATE vectors SET key = zeroblob(32) WHERE hash = ?1", 3);
        assert!(!has(&disk, 3));
        put(&disk, 0..4);
        assert!((0..4).all(|n| has(&disk, n)));
        assert_eq!(reports(), [""; 0]);
    }

    #[test]
    fn a_damaged_file_is_left_alone_until_it_is_cleared() {
        let home = tempfile::tempdir().unwrap();
        drop({
            let disk = open(home.path(), 1 << 20);
            put(&disk, 0..200);
            disk
        });
        let file = home.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        let mut torn = whole.clone();
        torn[8192..].iter_mut().step_by(3).for_each(|b| *b ^= 0x5a);
        for bytes in [&b"no database at all, and longer than its header is"[..], &whole[..9000], &torn] {
            fs::write(&file, bytes).unwrap();
            let disk = open(home.path(), 1 << 20);
            assert!(!(0..200).all(|n| has(&disk, n)));
            put(&disk, 0..200);
            let lines = reports();
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains("embral cache clear") && lines[0].contains("going on without"), "{lines:?}");
            VectorFolder::new(home.path()).clear().unwrap();
            let disk = open(home.path(), 1 << 20);
            put(&disk, 0..3);
            assert!(has(&disk, 2) && reports().is_empty());
        }
        // The database of somebody else is not touched.
        fs::remove_file(&file).unwrap();
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE precious (x)").unwrap();
        let disk = open(home.path(), 1 << 20);
        put(&disk, 0..3);
        assert!(reports()[0].contains("no vector cache of this version"));
        assert!(VectorFolder::new(home.path()).clear().is_err() && VectorFolder::new(home.path()).vectors().is_err());
        assert!(Connection::open(&file).unwrap().execute("SELECT * FROM precious", []).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_is_reported() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        let disk = open(&home.path().join("file/folder"), 1 << 20);
        put(&disk, 0..1);
        assert!(!has(&disk, 0));
        let lines = reports();
        assert!(lines.len() == 1 && lines[0].contains("cannot create the folder"), "{lines:?}");
    }

    /// The folder that the processes of the next test share.
    const SHARED: &str = "EMBRAL_TEST_VECTORS";
    const PROCESSES: u32 = 4;
    const EACH: u32 = 400;

    /// Alone a few rounds; as a process of the next test until it is killed.
    #[test]
    fn what_is_written_again_and_again_is_there() {
        let shared = std::env::var_os(SHARED);
        let home = tempfile::tempdir().unwrap();
        let disk = open(shared.as_deref().map_or(home.path(), Path::new), 64 << 20);
        let rounds = if shared.is_some() { 100_000 } else { 20 };
        for start in (0..EACH * PROCESSES).step_by(20).cycle().take(rounds) {
            put(&disk, start..start + 20);
            assert!(has(&disk, start));
        }
        assert_eq!(reports(), [""; 0]);
    }

    #[test]
    fn processes_share_the_store_and_a_kill_leaves_it_whole() {
        let home = tempfile::tempdir().unwrap();
        let name = "cache::disk::tests::what_is_written_again_and_again_is_there";
        let start = || {
            Command::new(std::env::current_exe().unwrap())
                .args([name, "--exact"])
                .env(SHARED, home.path())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        };
        let folder = VectorFolder::new(home.path());
        for round in 0..6 {
            let mut children: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
            // Some work is done in each round, and the kill comes at any point of what follows.
            let deadline = std::time::Instant::now() + Duration::from_secs(120);
            while folder.vectors().unwrap_or(0) < 20 * (round + 1) && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(40 + 35 * round));
            for child in &mut children {
                assert!(child.try_wait().unwrap().is_none(), "a process ended before it was killed");
                child.kill().unwrap();
                child.wait().unwrap();
            }
            folder.check().unwrap();
        }
        let disk = open(home.path(), 64 << 20);
        let kept = (0..EACH * PROCESSES).filter(|&n| has(&disk, n)).count();
        assert!(kept > 20, "{kept} vectors were kept");
        assert_eq!(kept as u64, folder.vectors().unwrap());
        assert_eq!(reports(), [""; 0]);
    }
}
