use super::{events::kind, *};

/// The only event of a log.
fn parse(log: &str) -> Option<KernelCrash> {
    let mut all = crashes(log);
    assert!(all.len() <= 1, "{all:#?}");
    all.pop()
}

const LOG: &str = "<1>[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000010
<1>[   12.345679] #PF: supervisor read access in kernel mode
<4>[   12.345680] Oops: 0000 [#1] PREEMPT SMP NOPTI
<4>[   12.345681] CPU: 1 PID: 77 Comm: sh Not tainted 6.1.0-13-amd64
<4>[   12.345682] RIP: 0010:md_do_sync.cold+0x30/0x1500 [md_mod]
<4>[   12.345683] Call Trace:
<4>[   12.345684]  <TASK>
<4>[   12.345685]  ? __die_body.cold+0x1a/0x1f
<4>[   12.345686]  md_thread+0xab/0x190 [md_mod]
<4>[   12.345687]  kthread+0xd7/0x100
<4>[   12.345688]  ret_from_fork+0x1f/0x30
<4>[   12.345689]  </TASK>
";

#[test]
fn one_oops_has_one_signature_whatever_the_addresses() {
    let here = parse(LOG).unwrap();
    assert_eq!(here.text, "strong\nprogram kernel\nnull pointer\nmd_do_sync\nmd_thread\nkthread\n");
    let there =
        LOG.replace("0x30/0x1500", "0x99/0x1777").replace("12.34", "99.12").replace("md_do_sync.cold", "md_do_sync");
    assert_eq!(parse(&there).unwrap().signature, here.signature);
    assert_ne!(parse(&LOG.replace("md_thread", "raid1d")).unwrap().signature, here.signature);
    // kdump's text has no levels, and is of the same crash.
    let bare = LOG.replace("<1>", "").replace("<4>", "");
    assert_eq!(parse(&bare), Some(here.clone()));
    assert!(here.moment.unwrap().starts_with("[   12.345678] BUG: kernel NULL"));
}

/// What the kernels of Debian 12 and 13 wrote when they were told to crash, in virtual machines: `echo c > /proc/sysrq-trigger`.
const TOLD_TO_CRASH: [&str; 2] =
    [include_str!("../../tests/kernel/debian-12.txt"), include_str!("../../tests/kernel/debian-13.txt")];

#[test]
fn two_releases_kernels_that_crash_alike_have_one_signature() {
    let [twelve, thirteen] = TOLD_TO_CRASH.map(|log| parse(log).unwrap());
    let frames = "sysrq_handle_crash\n__handle_sysrq\nwrite_sysrq_trigger\nproc_reg_write\nvfs_write\nksys_write\n";
    assert_eq!(twelve.text, format!("strong\nprogram kernel\npanic\n{frames}"));
    assert_eq!(twelve.signature, thirteen.signature);
    assert_ne!(twelve.moment, thirteen.moment);
}

/// As Debian 12's kernel writes it, and as Debian 13's does.
const PROTECTION: [&str; 2] = [
    "[  321.041230] general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] PREEMPT SMP NOPTI
[  321.041244] CPU: 0 PID: 911 Comm: md0_raid1 Not tainted 6.1.0-13-amd64 #1  Debian 6.1.55-1
[  321.041251] RIP: 0010:raid1d+0x1c1/0x1760 [raid1]
[  321.041260] RSP: 0018:ffffb27d40733e10 EFLAGS: 00010246
[  321.041266] Call Trace:
[  321.041270]  <TASK>
[  321.041274]  ? __die_body.cold+0x1a/0x1f
[  321.041281]  ? asm_exc_general_protection+0x22/0x30
[  321.041288]  md_thread+0xab/0x190 [md_mod]
[  321.041295]  kthread+0xd7/0x100
[  321.041302]  ret_from_fork+0x1f/0x30
[  321.041309]  </TASK>
[  321.041312] ---[ end trace 0000000000000000 ]---
[  321.041320] RIP: 0010:raid1d+0x1c1/0x1760 [raid1]
",
    "[   87.220011][  T702] Oops: general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] PREEMPT SMP PTI
[   87.220023][  T702] CPU: 1 UID: 0 PID: 702 Comm: md127_raid1 Not tainted 6.12.48+deb13-amd64 #1  Debian 6.12.48-1
[   87.220031][  T702] RIP: 0010:raid1d+0x1f4/0x18a0 [raid1]
[   87.220040][  T702] RSP: 0018:ffffa8c4407b3df0 EFLAGS: 00010206
[   87.220046][  T702] Call Trace:
[   87.220050][  T702]  <TASK>
[   87.220054][  T702]  ? __die_body.cold+0x19/0x27
[   87.220061][  T702]  ? die_addr+0x3c/0x60
[   87.220068][  T702]  md_thread+0xb3/0x1a0 [md_mod]
[   87.220075][  T702]  kthread+0xcf/0x100
[   87.220082][  T702]  ret_from_fork+0x31/0x50
[   87.220089][  T702]  ret_from_fork_asm+0x1a/0x30
[   87.220096][  T702]  </TASK>
",
];

#[test]
fn a_fault_that_kernels_announce_in_other_words_is_the_same_fault() {
    let [older, newer] = PROTECTION.map(|log| parse(log).unwrap());
    assert_eq!(older.text, "strong\nprogram kernel\ngeneral protection\nraid1d\nmd_thread\nkthread\n");
    assert_eq!(newer.text, older.text);
    for (older, newer) in [
        ("divide error: 0000 [#1] SMP", "Oops: divide error: 0000 [#1] PREEMPT SMP"),
        ("invalid opcode: 0000 [#1] SMP", "Oops: invalid opcode: 0000 [#1] PREEMPT SMP"),
    ] {
        assert_eq!(kind(older), kind(newer));
        assert_ne!(kind(newer), Some("oops"));
    }
    assert_eq!(kind("Oops: 0000 [#1] PREEMPT SMP NOPTI"), Some("oops"));
    assert_eq!(kind("Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI"), Some("oops"));
}

#[test]
fn a_log_without_a_crash_is_none() {
    assert_eq!(parse("[ 1.0] md: raid1 personality registered\n"), None);
}

/// A task that hung for a while; as Debian 12's kernel writes it.
const HUNG: &str = "[ 1208.512340] INFO: task jbd2/md0-8:455 blocked for more than 120 seconds.
[ 1208.512351]       Not tainted 6.1.0-32-amd64 #1 Debian 6.1.129-1
[ 1208.512356] \"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.
[ 1208.512360] task:jbd2/md0-8      state:D stack:0     pid:455   ppid:2      flags:0x00004000
[ 1208.512368] Call Trace:
[ 1208.512370]  <TASK>
[ 1208.512372]  __schedule+0x34d/0x9e0
[ 1208.512380]  schedule+0x5a/0xd0
[ 1208.512400]  jbd2_journal_commit_transaction+0x1185/0x1a70 [jbd2]
[ 1208.512420]  kthread+0xd7/0x100
[ 1208.512425]  ret_from_fork+0x1f/0x30
[ 1208.512430]  </TASK>
";

#[test]
fn each_event_of_a_log_has_the_signature_that_it_has_alone() {
    let bug = "[  500.100000] ------------[ cut here ]------------
[  500.100001] kernel BUG at fs/ext4/inode.c:2500!
[  500.100002] invalid opcode: 0000 [#2] PREEMPT SMP
[  500.100003] CPU: 1 PID: 80 Comm: rm Tainted: G      D 6.1.0-32-amd64 #1
[  500.100004] RIP: 0010:ext4_evict_inode+0x10/0x600 [ext4]
[  500.100005] Call Trace:
[  500.100006]  <TASK>
[  500.100007]  evict+0xcc/0x1d0
[  500.100008]  do_unlinkat+0x120/0x300
[  500.100009]  __x64_sys_unlink+0x3d/0x70
[  500.100010]  </TASK>
[  500.100011] ---[ end trace 0000000000000000 ]---
[  500.100012] RIP: 0010:raid1d+0x1c1/0x1760 [raid1]
";
    let panic = "[  900.000001] Kernel panic - not syncing: Fatal exception\n";
    let events = [HUNG, PROTECTION[0], bug, LOG];
    let alone: Vec<KernelCrash> = events.iter().map(|event| parse(event).unwrap()).collect();
    assert_eq!(
        alone[0].text,
        "strong\nprogram kernel\nhung task\n__schedule\nschedule\njbd2_journal_commit_transaction\nkthread\n"
    );
    assert_eq!(alone[2].text, "strong\nprogram kernel\nBUG\next4_evict_inode\nevict\ndo_unlinkat\n");
    assert_eq!(crashes(&(events.concat() + panic)), alone);
    let backwards: String = events.iter().rev().copied().collect();
    assert!(crashes(&backwards).iter().eq(alone.iter().rev()), "{:#?}", crashes(&backwards));
    // The firmware keeps the oops, and then all of it again with the panic.
    assert_eq!(crashes(&[LOG, LOG, panic].concat()), [alone[3].clone()]);
}

#[test]
fn a_report_that_was_cut_takes_nothing_from_the_next_one_of_any_kind() {
    let cut = "[  100.0] general protection fault, probably for non-canonical address 0xdead: 0000 [#1] PREEMPT SMP\n";
    for other in [
        "[ 7000.1] WARNING: CPU: 0 PID: 9 at net/core/dev.c:10 warned+0x1/0x2",
        "[ 7000.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "[ 7000.1] mariadbd invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0",
        "[ 7000.1] kworker/0:1: page allocation failure: order:4, mode:0x40dc0(GFP_KERNEL|__GFP_COMP|__GFP_ZERO)",
        "[ 7000.1] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 30s!",
        "[ 7000.1] NMI backtrace for cpu 1",
    ] {
        let block = format!(
            "{other}\n[ 7000.2] CPU: 0 PID: 9 Comm: x Not tainted 6.1.0\n[ 7000.3] RIP: 0010:warned+0x1/0x2\n\
             [ 7000.4] Call Trace:\n[ 7000.5]  <TASK>\n[ 7000.6]  warner+0x1/0x2\n[ 7000.7]  </TASK>\n"
        );
        assert_eq!(crashes(&block), [], "{other}");
        let [found] = crashes(&format!("{cut}{block}")).try_into().unwrap();
        assert_eq!(found.text, "weak\nprogram kernel\ngeneral protection\n", "{other}");
        let whole: [KernelCrash; 1] = crashes(&format!("{block}{LOG}")).try_into().unwrap();
        assert_eq!(whole[0], parse(LOG).unwrap(), "{other}");
    }
    // A traceback that somebody asked for has no line of its own kind.
    let asked = "[ 200.1] CPU: 0 PID: 1 Comm: a Not tainted\n";
    let other = "[ 300.1] CPU: 1 PID: 2 Comm: b Not tainted\n[ 300.2] Call Trace:\n[ 300.3]  dump+0x1/0x2\n";
    assert_eq!(crashes(&format!("{cut}{asked}{other}"))[0].strength, Strength::Weak);
}

#[test]
fn two_processors_that_print_at_once_are_told_apart() {
    let by = |log: &str, caller: &str| -> Vec<String> {
        let bare: Vec<&str> = log.lines().map(|line| line.split_once("] ").unwrap().1).collect();
        bare.iter().enumerate().map(|(at, text)| format!("[  100.{at:06}][{caller:>6}] {text}\n")).collect()
    };
    let (one, other) = (by(HUNG, "T62"), by(PROTECTION[0], "T911"));
    let mut mixed = String::new();
    for at in 0..one.len().max(other.len()) {
        mixed.extend([one.get(at), other.get(at)].into_iter().flatten().map(String::as_str));
    }
    assert_eq!(crashes(&mixed), [one, other].map(|lines| parse(&lines.concat()).unwrap()));
}

#[test]
fn a_panic_that_only_ends_what_was_told_is_no_second_event_and_every_other_panic_is_one() {
    let hung = format!(
        "{HUNG}[ 1208.6] Kernel panic - not syncing: hung_task: blocked tasks\n[ 1208.7] CPU: 0 PID: 40 Comm: khungtaskd\n[ 1208.8] Call Trace:\n[ 1208.9]  panic+0x1/0x2\n[ 1209.0]  watchdog+0x1/0x2\n"
    );
    assert_eq!(parse(&hung), parse(HUNG));
    let after = format!("{HUNG}{}", TOLD_TO_CRASH[1]);
    assert_eq!(crashes(&after), [HUNG, TOLD_TO_CRASH[1]].map(|log| parse(log).unwrap()));
    let alone = "[ 9.1] Kernel panic - not syncing: Fatal exception in interrupt\n";
    assert_eq!(parse(alone).unwrap().text, "weak\nprogram kernel\npanic\n");
    let lockup = "[ 9.1] NMI watchdog: Watchdog detected hard LOCKUP on cpu 3\n[ 9.2] CPU: 3 PID: 5 Comm: x Not tainted\n[ 9.3] RIP: 0010:spin+0x1/0x2\n[ 9.4] Kernel panic - not syncing: Hard LOCKUP\n";
    assert_eq!(parse(lockup).unwrap().text, "strong\nprogram kernel\nhard lockup\nspin\n");
}

#[test]
fn how_the_first_process_ended_tells_panics_apart_that_leave_alike() {
    let of = |code: &str| {
        let log = format!(
            "[ 9.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x{code}\n\
             [ 9.2] CPU: 0 PID: 1 Comm: systemd Not tainted 6.1.0\n[ 9.3] Call Trace:\n[ 9.4]  <TASK>\n\
             [ 9.5]  dump_stack_lvl+0x1/0x2\n[ 9.6]  panic+0x1/0x2\n[ 9.7]  do_exit.cold+0x1/0x2\n\
             [ 9.8]  do_group_exit+0x1/0x2\n[ 9.9]  __x64_sys_exit_group+0x1/0x2\n"
        );
        parse(&log).unwrap().text
    };
    assert_eq!(of("0000000b"), "weak\nprogram kernel\npanic, init ended by signal 11\n");
    assert_eq!(of("0000008b"), of("0000000b"));
    assert_eq!(of("00007f00"), "weak\nprogram kernel\npanic, init ended with 127\n");
}

#[test]
fn a_machine_check_is_the_same_whatever_it_interrupted() {
    let [one, other] = ["copy_page", "schedule"].map(|interrupted| {
        let log = format!(
            "[ 9.1] Kernel panic - not syncing: Fatal machine check\n[ 9.2] CPU: 3 PID: 7 Comm: x Not tainted 6.1.0\n\
             [ 9.3] Call Trace:\n[ 9.4]  <#MC>\n[ 9.5]  panic+0x1/0x2\n[ 9.6]  mce_panic+0x1/0x2\n\
             [ 9.7]  do_machine_check+0x1/0x2\n[ 9.8]  </#MC>\n[ 9.9]  <TASK>\n[ 10.0]  {interrupted}+0x1/0x2\n"
        );
        parse(&log).unwrap()
    });
    assert_eq!(one.text, "weak\nprogram kernel\npanic, machine check\n");
    assert_eq!(one.signature, other.signature);
}
