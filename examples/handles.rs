//! Prints the namespaces of a process, and how they are related: `handles [PID]`.

use ringfence::ns::{AnyNamespace, Namespace, User};
use ringfence::{Kind, NamespaceSet, Result};

fn main() -> Result<()> {
    let pid = std::env::args().nth(1).and_then(|pid| pid.parse().ok());
    let set = match pid {
        Some(pid) => NamespaceSet::of_pid(pid)?,
        None => NamespaceSet::current()?,
    };
    for namespace in set.iter() {
        println!("{namespace}{}", describe(namespace));
    }
    if let Some(user) = &set.user {
        print_user(user)?;
    }
    if let Some(pids) = &set.pid {
        println!("pid namespaces above: {}", pids.level()?);
        if let Some(inside) = pids.pid_inside(pid.unwrap_or_else(std::process::id))? {
            println!("number in its own pid namespace: {inside}");
        }
    }
    Ok(())
}

fn describe(namespace: &AnyNamespace) -> String {
    let mut text = String::new();
    if let Some(id) = namespace.unique_id() {
        text += &format!(", number {id} since boot");
    }
    // Those above the caller's own are not shown.
    if namespace.kind() != Kind::User
        && let Ok(owner) = namespace.user_namespace()
    {
        text += &format!(", owned by {owner}");
    }
    if namespace.is_current().is_ok_and(|is| is) {
        text += ", also the caller's";
    }
    text
}

fn print_user(user: &Namespace<User>) -> Result<()> {
    println!("creator of the user namespace: {}", user.owner_uid()?);
    for ancestor in user.ancestors()? {
        println!("within {ancestor}");
    }
    for (what, map) in [("users", user.uid_map()?), ("groups", user.gid_map()?)] {
        for extent in map {
            println!("{what}: {extent}");
        }
    }
    Ok(())
}
