# What an operator does once on each server that has its configuration: everything runs, and the databases know the Verifier's account.
set -eu
systemctl start postgresql mariadb apache2 smbd nmbd postfix dovecot chrony named nfs-server
exportfs -ra
mariadb -e "CREATE DATABASE verify; CREATE USER verify@'192.168.77.%' IDENTIFIED BY 'cake'; GRANT ALL ON verify.* TO verify@'192.168.77.%'"
cd /
runuser -u postgres -- psql -q -c "CREATE ROLE verify LOGIN PASSWORD 'cake'" -c 'CREATE DATABASE verify OWNER verify'
