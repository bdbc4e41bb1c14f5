# What an operator does once on each server that has its configuration: everything runs, and the databases know the Verifier's account.
set -eu
systemctl start postgresql mariadb apache2 smbd nmbd postfix dovecot chrony named nfs-server
exportfs -ra
mariadb -e "CREATE DATABASE verify; CREATE USER verify@'192.168.77.%' IDENTIFIED BY 'cake'; GRANT ALL ON verify.* TO verify@'192.168.77.%'"
cd /
runuser -u postgres -- psql -q -c "CREATE ROLE verify LOGIN PASSWORD 'cake'" -c 'CREATE DATABASE verify OWNER verify' \
    -c 'CREATE ROLE "www-data" LOGIN' -c 'CREATE DATABASE bakery'
runuser -u postgres -- psql -q -d bakery -c 'CREATE TABLE orders AS SELECT generate_series(1, 3)' -c 'GRANT SELECT ON orders TO "www-data"'
