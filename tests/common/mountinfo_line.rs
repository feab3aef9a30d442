//! A line of mountinfo, printed as the kernel prints it.

use std::os::unix::ffi::OsStrExt;

use ringfence::mount::mountinfo::Mount;

pub(crate) fn line(mount: &Mount) -> Vec<u8> {
    let mut line = format!("{} {} {} ", mount.id(), mount.parent(), mount.device()).into_bytes();
    line.extend(escape(mount.root().as_os_str().as_bytes(), b" \t\n\\"));
    line.push(b' ');
    line.extend(escape(mount.target().as_os_str().as_bytes(), b" \t\n\\"));
    line.push(b' ');
    line.extend(mount.options().as_os_str().as_bytes());
    let tags = mount.propagation().to_string();
    if !tags.is_empty() {
        line.extend(format!(" {tags}").bytes());
    }
    line.extend(b" - ");
    line.extend(escape(mount.fs_type().as_bytes(), b" \t\n\\#"));
    line.push(b' ');
    line.extend(escape(mount.source().as_bytes(), b" \t\n\\#"));
    line.push(b' ');
    line.extend(mount.super_options().as_os_str().as_bytes());
    line.push(b'\n');
    line
}

pub(crate) fn lines<'a>(mounts: impl IntoIterator<Item = &'a Mount>) -> Vec<u8> {
    mounts.into_iter().flat_map(line).collect()
}

/// `seq_escape` of the kernel.
pub(crate) fn escape(text: &[u8], special: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in text {
        if special.contains(byte) {
            escaped.extend(format!("\\{byte:03o}").bytes());
        } else {
            escaped.push(*byte);
        }
    }
    escaped
}
