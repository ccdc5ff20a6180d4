fn main() {
    println!("{}", conjur_operator::api::crds_yaml().unwrap());
}
