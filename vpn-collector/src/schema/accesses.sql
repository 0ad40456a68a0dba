-- For auditors: one row per flow and one per denied attempt, exact at any moment, whatever is merged already.
-- Grouped by the whole sort key of each table, so that conditions reach its index: for flows on operator, plant and
-- opened, for denied attempts on opened, as their operator and plant are results of the grouping.
-- Those two get the type they have in `flows`. Otherwise the union would convert that side, and search its index less
-- well.
-- Addresses are text, as each family is written: an IPv4 address without its mapping. Protocol 0 has no address: it
-- stands for all further destinations of a user in a minute, see `denials`.
CREATE OR REPLACE VIEW {database}.accesses AS
SELECT
    id,
    operator,
    plant,
    user,
    certificate,
    organisations,
    gateway,
    region,
    transform(number, [0, 1, 6, 17, 58, 132], ['any', 'ICMP', 'TCP', 'UDP', 'ICMPv6', 'SCTP'], toString(number)) AS protocol,
    replaceRegexpOne(toString(source_address), '^::ffff:([0-9]+[.][0-9.]+)$', '\\1') AS source,
    source_port,
    if(number = 0, '', replaceRegexpOne(toString(addressed_address), '^::ffff:([0-9]+[.][0-9.]+)$', '\\1')) AS addressed,
    if(verdict = 'forwarded', replaceRegexpOne(toString(destination_address), '^::ffff:([0-9]+[.][0-9.]+)$', '\\1'), '') AS destination,
    port,
    opened,
    last_seen,
    packets_to_plant,
    bytes_to_plant,
    packets_to_user,
    bytes_to_user,
    packets_refused,
    bytes_refused,
    closed,
    verdict
FROM
(
    SELECT
        flow AS id,
        operator,
        plant,
        max(f.user) AS user,
        max(f.certificate) AS certificate,
        arraySort(groupUniqArrayArray(f.organisations)) AS organisations,
        max(f.gateway) AS gateway,
        max(f.region) AS region,
        max(f.protocol) AS number,
        max(f.source) AS source_address,
        max(f.source_port) AS source_port,
        max(f.addressed) AS addressed_address,
        max(f.destination) AS destination_address,
        max(f.port) AS port,
        opened,
        max(f.last_seen) AS last_seen,
        max(f.packets_to_plant) AS packets_to_plant,
        max(f.bytes_to_plant) AS bytes_to_plant,
        max(f.packets_to_user) AS packets_to_user,
        max(f.bytes_to_user) AS bytes_to_user,
        toUInt64(0) AS packets_refused,
        toUInt64(0) AS bytes_refused,
        max(f.closed) AS closed,
        max(f.verdict) AS verdict
    FROM {database}.flows AS f
    GROUP BY operator, plant, opened, flow
    UNION ALL
    SELECT
        denial AS id,
        toLowCardinality(max(d.operator)) AS operator,
        toLowCardinality(max(d.plant)) AS plant,
        max(d.user) AS user,
        max(d.certificate) AS certificate,
        arraySort(groupUniqArrayArray(d.organisations)) AS organisations,
        max(d.gateway) AS gateway,
        max(d.region) AS region,
        max(d.protocol) AS number,
        max(d.source) AS source_address,
        toUInt16(0) AS source_port,
        max(d.addressed) AS addressed_address,
        toIPv6('::') AS destination_address,
        max(d.port) AS port,
        first_seen AS opened,
        max(d.last_seen) AS last_seen,
        toUInt64(0) AS packets_to_plant,
        toUInt64(0) AS bytes_to_plant,
        toUInt64(0) AS packets_to_user,
        toUInt64(0) AS bytes_to_user,
        max(d.attempts) AS packets_refused,
        max(d.bytes) AS bytes_refused,
        toUInt8(0) AS closed,
        max(d.verdict) AS verdict
    FROM {database}.denials AS d
    GROUP BY first_seen, denial
)
