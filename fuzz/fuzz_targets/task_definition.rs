#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecs_updater_fuzz::task_definition::check(data));
