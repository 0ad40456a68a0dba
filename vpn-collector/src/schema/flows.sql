-- One flow has many rows, each a snapshot of its totals, merged by the greatest value. Ask the view `accesses`, or
-- add GROUP BY flow: rows that are not merged yet stand side by side.
-- Sorted for "who touched this plant between … and …". The month of the flow's start is the partition, so that a
-- late snapshot lies beside the earlier ones and is merged with them.
-- The greatest of two sets of organisations would be no answer, so they merge to what is in any.
CREATE TABLE IF NOT EXISTS {database}.flows
(
    flow UUID COMMENT 'The same in all snapshots of a flow',
    operator LowCardinality(String) COMMENT 'Organisation that operates the plant and may read this row; empty for services of the gateway itself',
    plant LowCardinality(String) COMMENT 'Plant id; (gateway) for services of the gateway itself',
    user SimpleAggregateFunction(max, String) COMMENT 'User id',
    certificate SimpleAggregateFunction(max, String) COMMENT 'Certificate id, which stands for the WireGuard key',
    organisations SimpleAggregateFunction(groupUniqArrayArray, Array(String)) COMMENT 'Organisations of the user, unordered',
    gateway SimpleAggregateFunction(max, String) COMMENT 'Gateway host that forwarded the flow',
    region SimpleAggregateFunction(max, String) COMMENT 'Region of the gateway',
    protocol SimpleAggregateFunction(max, UInt8) COMMENT 'IANA protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6',
    source SimpleAggregateFunction(max, IPv6) COMMENT 'Address of the user in the tunnel; IPv4 as ::ffff:a.b.c.d',
    source_port SimpleAggregateFunction(max, UInt16) COMMENT 'Source port; the identifier for ICMP echo',
    addressed SimpleAggregateFunction(max, IPv6) COMMENT 'Destination as the user addressed it, virtual or real; IPv4 as ::ffff:a.b.c.d',
    destination SimpleAggregateFunction(max, IPv6) COMMENT 'Destination as the plant knows it; IPv4 as ::ffff:a.b.c.d',
    port SimpleAggregateFunction(max, UInt16) COMMENT 'Destination port; 0 for ICMP',
    opened DateTime64(6, 'UTC') COMMENT 'First packet, microseconds; the same in all snapshots of a flow',
    last_seen SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'Last packet either way, microseconds',
    packets_to_plant SimpleAggregateFunction(max, UInt64) COMMENT 'Packets from the user so far',
    bytes_to_plant SimpleAggregateFunction(max, UInt64) COMMENT 'Bytes from the user so far, IP header included',
    packets_to_user SimpleAggregateFunction(max, UInt64) COMMENT 'Packets from the plant so far',
    bytes_to_user SimpleAggregateFunction(max, UInt64) COMMENT 'Bytes from the plant so far, IP header included',
    closed SimpleAggregateFunction(max, UInt8) COMMENT '1 once the flow has ended and its totals are final',
    verdict SimpleAggregateFunction(max, String) COMMENT 'forwarded',
    INDEX by_user user TYPE bloom_filter GRANULARITY 4,
    INDEX by_destination destination TYPE bloom_filter GRANULARITY 4
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(opened)
ORDER BY (operator, plant, opened, flow)
TTL toDateTime(last_seen) + toIntervalDay({retention_days})
-- An acknowledged row survives a power cut, and so does what a merge makes of it.
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1
COMMENT 'Audit: snapshots of forwarded flows, merged per flow by the greatest value'
