//! An embeddable service mesh.
