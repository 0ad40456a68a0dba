-- As `flows`, for what was refused: one user, destination, port and protocol in one minute is one attempt, however often
-- it is repeated. Of a user who tries too many in a minute, the further ones are one attempt together, at `::` and
-- protocol 0. The bytes reached nobody, which is why they are not in the columns of `flows`.
-- Sorted by what is the same in all snapshots of an attempt, and nothing else. Whose address was refused may become
-- known only after the first snapshot, and rows that differ in the sort key never merge; as merged columns, a name
-- takes the place of '', which is less than any. "Denied at this plant between …" reads that time and no other.
CREATE TABLE IF NOT EXISTS {database}.denials
(
    denial UUID COMMENT 'The same in all snapshots of an attempt',
    operator SimpleAggregateFunction(max, String) COMMENT 'Organisation that operates the plant; empty if none is known',
    plant SimpleAggregateFunction(max, String) COMMENT 'Plant id; empty if no single plant was meant, or none is known yet',
    user SimpleAggregateFunction(max, String) COMMENT 'User id',
    certificate SimpleAggregateFunction(max, String) COMMENT 'Certificate id, which stands for the WireGuard key',
    organisations SimpleAggregateFunction(groupUniqArrayArray, Array(String)) COMMENT 'Organisations of the user, unordered',
    gateway SimpleAggregateFunction(max, String) COMMENT 'Gateway host that refused',
    region SimpleAggregateFunction(max, String) COMMENT 'Region of the gateway',
    protocol SimpleAggregateFunction(max, UInt8) COMMENT 'IANA protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6; 0 for further destinations together',
    source SimpleAggregateFunction(max, IPv6) COMMENT 'Address of the user in the tunnel; IPv4 as ::ffff:a.b.c.d',
    addressed SimpleAggregateFunction(max, IPv6) COMMENT 'Destination as the user addressed it, virtual or real; IPv4 as ::ffff:a.b.c.d',
    port SimpleAggregateFunction(max, UInt16) COMMENT 'Destination port; 0 for ICMP',
    verdict SimpleAggregateFunction(max, String) COMMENT 'Why, for instance no-route',
    first_seen DateTime64(6, 'UTC') COMMENT 'First refused packet, microseconds; the same in all snapshots',
    last_seen SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'Last refused packet, microseconds',
    attempts SimpleAggregateFunction(max, UInt64) COMMENT 'Packets refused so far',
    bytes SimpleAggregateFunction(max, UInt64) COMMENT 'Bytes of those packets, IP header included',
    INDEX by_user user TYPE bloom_filter GRANULARITY 4,
    -- Not reached through the view, but by conditions on the table: a row policy on `operator`, for instance, or a
    -- search for a plant's attempts at any time. Fine grains, as the rows of all plants are mixed.
    INDEX by_operator operator TYPE bloom_filter GRANULARITY 1,
    INDEX by_plant plant TYPE bloom_filter GRANULARITY 1
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(first_seen)
ORDER BY (first_seen, denial)
TTL toDateTime(last_seen) + toIntervalDay({retention_days})
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1
COMMENT 'Audit: snapshots of denied attempts, merged per attempt by the greatest value'
