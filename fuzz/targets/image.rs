//! Any bytes as an archive of images: an error, or references that are references.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(images) = kubastion::bundle::image::inspect(data) {
        for image in images {
            assert!(kubastion::bundle::image::is_reference(&image.reference), "{image:?}");
        }
    }
});
