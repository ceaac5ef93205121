//! A file of Istio resources: any text is read, and every diagnostic can be rendered.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mesh_control::config::Strictness;
use mesh_control::diagnostic::{Source, Style};
use mesh_control::load::Loaded;

fuzz_target!(|text: &str| {
    let read = |strictness| {
        let source = Source::new("input.yaml", text);
        Loaded::from_sources(vec![Arc::new(source)], strictness)
    };
    let strict = read(Strictness::Strict);
    for diagnostic in &strict.diagnostics {
        let shown = diagnostic.render(Style::Plain);
        assert!(shown.contains("input.yaml"), "{shown}");
    }
    let lenient = read(Strictness::Lenient);
    if strict.is_valid() {
        assert!(lenient.is_valid(), "lenient reading refuses what strict reading accepts: {:?}", lenient.diagnostics);
        assert_eq!(lenient.mesh.config.len(), strict.mesh.config.len());
    }
});
