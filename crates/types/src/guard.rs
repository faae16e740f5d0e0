//! Foreign code that panics on some of the bytes that it cannot make sense of, as a value.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of another crate; nothing where it panicked. What it was changing then is half changed and must not be used again.
pub fn guarded<T>(run: impl FnOnce() -> T) -> Option<T> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(outer);
    outcome.ok()
}

/// From now on a panic inside [`guarded`] prints nothing; any other goes to the hook that was in force, and so does one on a
/// thread that the guarded code starts.
///
/// It changes the panic hook, which belongs to the process: for programs, not for libraries. Calls after the first do nothing.
pub fn silence_guarded() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.try_with(Cell::get).unwrap_or(false) {
                before(panic);
            }
        }));
    });
}
