//! Any bytes as the manifest of a bundle: none of its paths leaves the bundle, and what is read again
//! from what was written is the same.
#![no_main]

use kubastion::bundle::Manifest;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(data) else { return };
    for file in &manifest.files {
        let path = file.path.as_str();
        let words: Vec<&str> = path.split('/').collect();
        assert!(words.len() == 2 && words.iter().all(|w| !w.is_empty() && !w.starts_with('.')));
    }
    let text = manifest.canonical();
    let again: Manifest = serde_json::from_slice(&text).expect("it was written");
    assert_eq!(again.canonical(), text);
    let _ = (manifest.images(), manifest.required_images(), manifest.total_size());
});
