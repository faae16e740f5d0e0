//! The panic hook belongs to the process, so this test has a process of its own.

use embral_types::{guarded, silence_guarded};
use std::{
    panic::{catch_unwind, set_hook},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

#[test]
fn only_guarded_panics_are_silent() {
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    let heard = || HEARD.swap(0, Ordering::Relaxed);
    let broken = || -> u32 { panic!("broken") };
    set_hook(Box::new(|_| {
        HEARD.fetch_add(1, Ordering::Relaxed);
    }));
    assert_eq!((guarded(broken), guarded(|| 1)), (None, Some(1)));
    assert_eq!(heard(), 1, "a library leaves the hook alone");

    silence_guarded();
    silence_guarded();
    assert_eq!(guarded(broken), None);
    assert_eq!(guarded(|| (guarded(broken), guarded(broken))), Some((None, None)));
    assert_eq!(guarded(|| (guarded(broken), broken())), None);
    assert_eq!(heard(), 0);

    assert!(catch_unwind(broken).is_err());
    assert_eq!(heard(), 1);
    assert!(guarded(|| thread::spawn(broken).join().is_err()).unwrap());
    assert_eq!(heard(), 1, "another thread is not guarded");
}
