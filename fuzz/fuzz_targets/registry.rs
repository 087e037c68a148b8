#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecs_updater_fuzz::registry::check(data));
