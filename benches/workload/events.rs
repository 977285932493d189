//! One typical event of each kind.

#![allow(dead_code, reason = "not every bench needs all of it")]

use ringside::event::{Kind, PADDING, Payload};

/// A datagram as it lies in a slot of the pool: with something behind it.
pub struct InSlot(Vec<u8>);

impl InSlot {
    pub fn new(datagram: &[u8]) -> Self {
        Self([datagram, &[b'?'; PADDING]].concat())
    }

    pub fn typical(kind: Kind) -> Self {
        Self::new(typical(kind).as_bytes())
    }

    /// To be read again and again: whoever reads does not know what it reads.
    pub fn payload(&self) -> Payload<'_> {
        let bytes = std::hint::black_box(&self.0);
        Payload::new(bytes, bytes.len() - PADDING)
    }
}

/// The id of an app, and of whatever else has one.
const ID: &str = "e7af59a0-c243-480d-9571-08727551a66f";

/// A typical event; the performance event has 372 bytes, the average in recorded traffic.
pub fn typical(kind: Kind) -> String {
    let name = kind.name();
    let head = format!(
        "/{name}/;1437;20211109T153726.028+0200;2021-11-09 15:37:26,028;WARN;pro2-win1;\
         System.{}.Service;LAB\\qlikservice",
        &name["qseow-".len()..],
    );
    match kind {
        Kind::ProxySession | Kind::ProxyConnection => format!(
            "/{name}/;pro2-win1;Open connection;LAB;goran;AppAccess;/app/{ID};connection Opened \
             for session 'b37523a5-3b4a-4ee2-a463-513755ac0ecd'; path '/app/{ID}'; UserAgent: \
             'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/124.0.0.0 Safari/537.36'"
        ),
        Kind::Engine => format!(
            "{head};Connection to the data source was lost;{ID};LAB;goran;20211109T153726.028+0200;\
             {ID};12.1477.4;20211101T080000.000+0200;System;{ID};{ID}"
        ),
        Kind::Proxy | Kind::Repository => format!(
            "{head};Access was denied for the user;The certificate chain is not trusted;LAB;goran;\
             Open connection;403;AppAccess;/app/{ID}"
        ),
        Kind::Scheduler => format!(
            "{head};Reload failed in Engine. Check engine or script logs.;;LAB;goran;;Manually \
             triggered reload of Sales;Sales;{ID};{ID};{ID}"
        ),
        Kind::QixPerf => {
            let start = format!(
                "/{name}/;1437;20211109T153726.028+0200;2021-11-09 15:37:26,028;INFO;pro2-win1;\
                 QixPerformance.Engine.Engine;LAB\\qlikservice;{ID};LAB;goran;\
                 20211109T153726.028+0200;{ID};{ID};7;GenericObject::GetLayout;12.5;11;0.25;1;0;3;\
                 rwPjBk;123456;234567;"
            );
            let object_type = "x".repeat(372 - start.len());
            start + &object_type
        }
    }
}
