//! The preset, and what it consists of: nothing in it is weaker than it says.

use crate::common::{in_forked_child, isolated_as_both, require};
use crate::inside::{Kernel, programs};
use ringfence::lockdown::Hardening;
use ringfence::{IdMap, MountLock, Rootfs, Sandbox};

#[track_caller]
fn sh(sandbox: &Sandbox, script: &str) -> String {
    let command = sandbox.clone().command("/bin/sh").env("LC_ALL", "C");
    let output = command
        .args(["-c", &format!("exec 2>&1; {script}")])
        .output();
    let output = output.unwrap_or_else(|error| panic!("{error:?}"));
    String::from_utf8(output.stdout).unwrap()
}

fn hardened(hardening: Hardening) -> Sandbox {
    let sandbox = Sandbox::new().user().mount().pid().net().ipc();
    programs(sandbox.user_map(IdMap::root()).rootfs(Rootfs::tmpfs()))
        .proc("/proc")
        .sysfs("/sys")
        .dev("/dev")
        .harden(hardening)
}

#[test]
fn parts_of_proc_and_sys_are_hidden_or_read_only() {
    isolated_as_both(|| {
        require!(userns, new_proc, netns);
        let plain = sh(&hardened(Hardening::new()), "ls /sys/firmware | wc -l");
        assert_ne!(plain, "0\n");
        let script = "
            for file in kcore keys timer_list sched_debug interrupts; do
                test ! -s /proc/$file && ! head -c1 /proc/$file 2> /dev/null | grep -q . || echo shown: $file
            done
            for dir in /proc/acpi /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do
                test ! -e $dir || test -z \"$(ls $dir)\" || echo shown: $dir
            done
            for file in sys/kernel/hostname sys/net/ipv4/ip_forward sysrq-trigger; do
                echo 1 > /proc/$file && echo written: $file
            done 2> /dev/null
            cut -d' ' -f5,6 /proc/self/mountinfo | grep -c '^/proc/sys ro,'
            cat /proc/uptime > /dev/null && echo done";
        for kernel in [Kernel::New, Kernel::WithoutSetattr, Kernel::Classic] {
            let status = in_forked_child(|| {
                kernel.pretend();
                let said = sh(&hardened(Hardening::container()), script);
                assert_eq!(said, "1\ndone\n");
                0
            });
            assert!(status.success(), "{kernel:?}: {status}");
        }
        let allowed = hardened(Hardening::container().allow("/proc/sys"));
        let script = "echo 1 > /proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward";
        assert_eq!(sh(&allowed, script), "1\n");
    });
}

#[test]
fn another_proc_is_hardened_where_it_is() {
    isolated_as_both(|| {
        require!(userns, new_proc, netns);
        let sandbox = Sandbox::new().user().mount().pid().user_map(IdMap::root());
        let sandbox = programs(sandbox.rootfs(Rootfs::tmpfs()))
            .proc("/other/proc")
            .harden(Hardening::container().mask("/proc/uptime"));
        let script = "cd /other/proc; cat uptime | wc -c; (echo > sysrq-trigger) || echo kept";
        let said = sh(&sandbox, script);
        assert!(
            said.starts_with("0\n") && said.ends_with("kept\n"),
            "{said}"
        );
    });
}

#[test]
fn user_namespaces_can_be_switched_off() {
    isolated_as_both(|| {
        require!(userns, new_proc, program("unshare"));
        let base = || Sandbox::new().user().user_map(IdMap::root());
        let tries = "unshare -U true && echo made; unshare -Ur true && echo made; id -u";
        let said = sh(&base(), tries);
        assert!(said.contains("made"), "{said}");
        let rooted = |sandbox: Sandbox| {
            programs(sandbox.mount().pid().rootfs(Rootfs::tmpfs()))
                .proc("/proc")
                .dev("/dev")
        };
        let locked = rooted(base()).lock_mounts(MountLock::Nested);
        for sandbox in [
            base(),
            base().pid().init(),
            rooted(base()),
            rooted(base()).init(),
            locked,
        ] {
            let script = format!("{tries}; cat /proc/sys/user/max_user_namespaces; true");
            let said = sh(&sandbox.disable_userns(), &script);
            assert!(!said.contains("made"), "{said}");
            assert!(said.contains("No space left on device"), "{said}");
            assert!(said.contains("\n0\n"), "{said}");
        }
        // Whoever is root there cannot lift the limit either.
        let script = "echo 100 > /proc/sys/user/max_user_namespaces; unshare -U true && echo made";
        let said = sh(&rooted(base()).disable_userns(), script);
        assert!(!said.contains("made"), "{said}");
        let error = Sandbox::new().disable_userns().command("true").compile();
        assert_eq!(error.unwrap_err().setter(), Some("disable_userns"));
        let error = base().disable_userns().command("true").uid(0).compile();
        assert_eq!(error.unwrap_err().setter(), Some("disable_userns"));
    });
}

mod preset {
    use super::*;
    use crate::common::isolated;
    use crate::lockdown::fields;
    use ringfence::lockdown::Capabilities;

    fn container() -> Sandbox {
        programs(Sandbox::container(Rootfs::tmpfs()).unwrap())
    }

    #[test]
    fn everything_is_locked_down() {
        isolated_as_both(|| {
            require!(userns, new_proc, netns, timens);
            let status = fields(&sh(&container(), "cat /proc/self/status"));
            let set = |name: &str| u64::from_str_radix(&status[name], 16).unwrap();
            let bits = Capabilities::CONTAINER.bits();
            assert_eq!(set("CapInh"), 0);
            assert_eq!(set("CapAmb"), 0);
            for name in ["CapPrm", "CapEff", "CapBnd"] {
                assert_eq!(set(name), bits, "{name}");
            }
            assert_eq!(status["NoNewPrivs"], "1");
            assert_eq!(status["Seccomp"], "2");
            let script = "
                for kind in user pid mnt net uts ipc cgroup time; do readlink /proc/self/ns/$kind; done
                cat /proc/1/comm; ls -A /sys/firmware /root 2> /dev/null | grep -v ':$'; cd /; ls";
            let said = sh(&container(), script);
            let mut lines = said.lines();
            for kind in ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup", "time"] {
                let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
                assert_ne!(lines.next(), own.to_str(), "{kind}");
            }
            assert_eq!(lines.next(), Some("ringfence-init"));
        });
    }

    #[test]
    fn what_the_filter_refuses_is_refused() {
        isolated_as_both(|| {
            require!(
                userns,
                new_proc,
                netns,
                timens,
                program("unshare"),
                program("mount")
            );
            // With all capabilities it is the filter alone that stands in the way.
            let capable = container().capabilities(Capabilities::of_kernel());
            let script = "
                for flags in -m -n -u -i -C -U -T; do unshare $flags true && echo made $flags; done
                mount -t tmpfs none /dev/shm && echo mounted
                hostname x && echo named
                umount /proc/kcore && echo lifted
                dmesg > /dev/null && echo read
                true";
            let said = sh(&capable, script);
            for word in ["made", "mounted", "named", "lifted"] {
                assert!(!said.contains(word), "{said}");
            }
            assert!(
                said.matches("unshare failed: Operation not permitted")
                    .count()
                    == 7,
                "{said}"
            );
            let open = sh(&capable.without_seccomp(), script);
            assert!(
                open.contains("mounted") && open.contains("made -m"),
                "{open}"
            );
        });
    }

    /// Runs in the program, where the filter is in force.
    #[test]
    fn probe_of_the_filter() {
        use crate::common::sys::refused;
        if std::env::var_os("RINGFENCE_FILTER_PROBE").is_none() {
            return;
        }
        let none = [0; 3];
        let bad = [libc::c_ulong::MAX; 3];
        for (name, number) in [
            ("add_key", libc::SYS_add_key),
            ("bpf", libc::SYS_bpf),
            ("fsopen", libc::SYS_fsopen),
            ("init_module", libc::SYS_init_module),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("keyctl", libc::SYS_keyctl),
            ("mount", libc::SYS_mount),
            ("move_mount", libc::SYS_move_mount),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("open_tree", libc::SYS_open_tree),
            ("open_tree_attr", 467),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("pivot_root", libc::SYS_pivot_root),
            ("process_vm_readv", libc::SYS_process_vm_readv),
            ("ptrace", libc::SYS_ptrace),
            ("setns", libc::SYS_setns),
            ("unshare", libc::SYS_unshare),
            ("userfaultfd", libc::SYS_userfaultfd),
        ] {
            println!("{name} {}", refused(number, bad));
        }
        println!("clone3 {}", refused(libc::SYS_clone3, none));
        let newuser = libc::CLONE_NEWUSER as libc::c_ulong;
        println!("clone {}", refused(libc::SYS_clone, [newuser, 0, 0]));
        // The kernel looks at the lower half of the request only.
        for request in [libc::TIOCSTI as libc::c_ulong, 1 << 32 | 0x5412, 0x541c] {
            println!("ioctl {}", refused(libc::SYS_ioctl, [9999, request, 0]));
        }
        println!("other {}", refused(libc::SYS_ioctl, [9999, 0x5401, 0]));
        #[cfg(target_arch = "x86_64")]
        println!("x32 {}", refused(0x4000_0000 | libc::SYS_getppid, none));
    }

    #[test]
    fn every_call_that_the_filter_names_is_refused() {
        isolated(|| {
            let filter = ringfence::lockdown::SeccompFilter::container().unwrap();
            let program = std::fs::read_link("/proc/self/exe").unwrap();
            // Without a new root, which the test's own program would not be in.
            let command = Sandbox::new().seccomp(filter).command(program);
            let output = command
                .args([
                    "lockdown::container::preset::probe_of_the_filter",
                    "--exact",
                    "--nocapture",
                ])
                .env("RINGFENCE_FILTER_PROBE", "1")
                .output();
            let output = output.unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let answers = said.lines().filter_map(|line| line.rsplit_once(' '));
            let mut seen = 0;
            for (name, errno) in answers {
                let Ok(errno) = errno.parse::<i32>() else {
                    continue;
                };
                let name = name.rsplit(' ').next().unwrap();
                let expected = match name {
                    "clone3" | "x32" => libc::ENOSYS,
                    "other" => libc::EBADF,
                    _ => libc::EPERM,
                };
                assert_eq!(errno, expected, "{name}: {said}");
                seen += 1;
            }
            assert!(seen >= 24, "{said}");
        });
    }

    #[test]
    fn each_part_can_be_taken_back_and_the_plan_shows_it() {
        let plan = |sandbox: Sandbox| sandbox.command("true").compile().unwrap().to_string();
        let full = plan(container());
        for part in [
            "capabilities: bounding chown,",
            "capabilities: keep chown,dac_override,fowner,fsetid,kill,setgid,setuid,net_bind_service",
            "no_new_privs: for good [prctl]",
            "seccomp: a filter of",
            "mask: /proc/kcore",
            "remount: /proc/sys, ro",
        ] {
            assert!(full.contains(part), "{part} is missing from\n{full}");
        }
        assert!(!plan(container().without_seccomp()).contains("seccomp"));
        assert!(!plan(container().allow_new_privs()).contains("no_new_privs"));
        assert!(!plan(container().harden(Hardening::new())).contains(" mask: "));
        let all = container().capabilities(ringfence::lockdown::CapabilitySets::new());
        assert!(!plan(all).contains("capabilities"));
    }
}
